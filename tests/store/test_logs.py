"""Log chunks: copied when new, merged with care when they may be stored, a partition a day."""

import asyncio
import zlib
from collections.abc import Sequence
from datetime import date, timedelta

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api import members
from api.store import logs as store
from api.store import results as result_store
from api.store.logs import Chunk
from schema.reports import StreamTotal
from tests.store.support import claim, ended, lanes_of, running, session, submit

Pair = tuple[asyncpg.Connection, asyncpg.Connection]
_DAY = date(2026, 5, 17)


def _chunk(
    data: bytes, *, task: int = 1, attempt: int = 1, stream: int = 1, position: int = 0,
    day: date = _DAY, marks: bytes = b"",
) -> Chunk:  # fmt: skip
    return Chunk(
        day=day, task=task, attempt=attempt, stream=stream, position=position, size=len(data),
        lines=data.count(b"\n"), crc=zlib.crc32(data), marks=marks, content=members.deflate(data),
    )  # fmt: skip


async def _make_day(connection: asyncpg.Connection, day: date) -> None:
    await connection.execute(
        f"CREATE TABLE log_chunks_{day:%Y%m%d} PARTITION OF log_chunks"
        f" FOR VALUES FROM ('{day}') TO ('{day + timedelta(days=1)}')"
    )


@pytest.fixture
async def logs(connection: asyncpg.Connection) -> asyncpg.Connection:
    """Give the day of the chunks a partition."""
    await _make_day(connection, _DAY)
    return connection


async def _copy(connection: asyncpg.Connection, chunks: Sequence[Chunk]) -> None:
    await store.copy_chunks(connection, store.binary_rows(chunks))


async def _stored(connection: asyncpg.Connection) -> list[Chunk]:
    rows = await connection.fetch(
        "SELECT day, task, attempt, stream, position, size, lines, crc, marks, content"
        " FROM log_chunks ORDER BY task, attempt, stream, position"
    )
    return [Chunk(*row) for row in rows]


async def test_the_largest_numbers_are_listed(logs: asyncpg.Connection) -> None:
    """They come as bytes: of this width, in this order, and not negative."""
    crc = 2**32 - 1
    far = Chunk(_DAY, 1, 1, 1, 2**62, 2**31 - 1, 2**31 - 2, crc, b"", b"")
    await _copy(logs, [far])
    place = store.AttemptPlace(1, _DAY, False, True, None, None, 0)
    (extents,) = [await store.list_extents(logs, 1, place, 1)]
    columns = (extents.positions, extents.sizes, extents.lines, extents.crcs)
    assert [list(column) for column in columns] == [[2**62], [2**31 - 1], [2**31 - 2], [crc]]


@pytest.mark.parametrize("way", ["copy", "merge"])
async def test_a_chunk_is_stored_as_it_came(logs: asyncpg.Connection, way: str) -> None:
    """Both ways write the same row, to the last byte and the largest number."""
    chunks = [
        _chunk(bytes(range(256)) * 40, task=1, marks=b"\0\x01\xff"),
        _chunk(b"x", task=2**62, attempt=2**31 - 1, stream=2, position=2**62),
        _chunk(b"\n" * 1_048_576, task=2**62 + 1),
    ]
    if way == "copy":
        await _copy(logs, chunks)
    else:
        assert await store.merge_chunks(logs, chunks) == {chunk.key for chunk in chunks}
    assert await _stored(logs) == chunks


async def test_log_text_is_not_compressed_once_more(logs: asyncpg.Connection) -> None:
    """TOAST's own compression costs seven eighths of the ingest rate."""
    storage = await logs.fetch(
        "SELECT attstorage::text FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid"
        " WHERE relname LIKE 'log_chunks%' AND relkind IN ('r', 'p') AND attname = 'content'"
    )
    assert len(storage) >= 2
    assert {row[0] for row in storage} == {"e"}


@given(
    st.lists(
        st.tuples(
            st.dates(date(1, 1, 1), date(9999, 12, 31)),
            st.integers(1, 2**63 - 1),
            st.binary(max_size=20),
            st.binary(max_size=20),
        ),
        max_size=4,
    )
)
@settings(max_examples=50)
def test_copy_rows_have_the_length_that_they_declare(
    rows: list[tuple[date, int, bytes, bytes]],
) -> None:
    """A wrong length would put the server out of step with the rest of the stream."""
    chunks = [Chunk(day, task, 1, 1, 0, 1, 0, 0, marks, body) for day, task, marks, body in rows]
    data, at = store.binary_rows(chunks), 19  # behind COPY's own head
    for chunk in chunks:
        assert int.from_bytes(data[at : at + 2], "big") == 10
        at += 2
        fields = []
        for _ in range(10):
            length = int.from_bytes(data[at : at + 4], "big")
            fields.append(data[at + 4 : at + 4 + length])
            at += 4 + length
        assert fields[8:] == [chunk.marks, chunk.content]
        assert int.from_bytes(fields[1], "big") == chunk.task
    assert data[at:] == b"\xff\xff"


async def test_a_copy_that_meets_a_stored_chunk_stores_nothing(logs: asyncpg.Connection) -> None:
    """COPY cannot skip it: the whole batch goes the careful way then."""
    await _copy(logs, [_chunk(b"a")])
    with pytest.raises(asyncpg.UniqueViolationError):
        async with logs.transaction():
            await _copy(logs, [_chunk(b"b", position=1), _chunk(b"a")])
    assert [chunk.position for chunk in await _stored(logs)] == [0]


async def test_a_merge_stores_what_is_new_and_leaves_the_rest(logs: asyncpg.Connection) -> None:
    """Chunks sent again must neither double nor replace what stands there."""
    first, other = _chunk(b"first"), _chunk(b"other")
    new, twice = _chunk(b"new", position=5), _chunk(b"twice", position=8)
    assert await store.merge_chunks(logs, [first]) == {first.key}
    stored = await store.merge_chunks(logs, [twice, other, new, first, twice])
    assert stored == {new.key, twice.key}
    assert await _stored(logs) == [first, new, twice]
    sizes = await store.stored_sizes(logs, [new.key, other.key, _chunk(b"", position=99).key])
    assert sizes == {new.key: (3, new.crc), first.key: (5, first.crc)}


async def test_of_the_same_key_twice_the_first_is_stored(logs: asyncpg.Connection) -> None:
    """The verdicts rely on the order of the batch."""
    one, two = _chunk(b"one"), _chunk(b"two")
    await store.merge_chunks(logs, [one, two])
    assert await _stored(logs) == [one]


async def test_two_merges_of_the_same_chunks_do_not_deadlock(pair: Pair) -> None:
    """Keys are sorted: writers that meet wait for each other, in one direction."""
    one, other = pair
    await _make_day(one, _DAY)
    chunks = [_chunk(b"x", position=position) for position in range(20)]
    async with asyncio.TaskGroup() as group:
        merges = [
            group.create_task(store.merge_chunks(connection, batch))
            for connection, batch in ((one, chunks), (other, chunks[::-1]))
        ]
    assert sorted(len(merge.result()) for merge in merges) == [0, 20]
    assert len(await _stored(one)) == 20


async def test_a_stream_is_read_from_any_chunk_on(logs: asyncpg.Connection) -> None:
    """Streams and attempts are apart; content is read a few chunks at a time."""
    chunks = [_chunk(b"ab\n", position=position, marks=b"\0\1") for position in (0, 3, 6, 9)]
    beside = [_chunk(b"err", stream=2), _chunk(b"2nd", attempt=2), _chunk(b"next", task=2)]
    await _copy(logs, [*beside, *reversed(chunks)])
    place = store.AttemptPlace(1, _DAY, False, True, None, None, 0)
    extents = await store.list_extents(logs, 1, place, 1)
    assert list(extents.positions) == [0, 3, 6, 9]
    assert list(extents.sizes) == [3] * 4
    assert list(extents.lines) == [1] * 4
    assert list(extents.crcs) == [zlib.crc32(b"ab\n")] * 4
    assert len(await store.list_extents(logs, 99, place, 1)) == 0
    read = await store.read_chunks(logs, 1, place, 1, 3, 2)
    assert [(each.position, each.content, each.marks) for each in read] == [
        (3, chunks[1].content, b"\0\1"),
        (6, chunks[2].content, b"\0\1"),
    ]
    assert read[0].received_us > 1_700_000_000_000_000


async def test_an_attempt_is_found_wherever_it_is_kept(connection: asyncpg.Connection) -> None:
    """Newest, superseded, or waiting to run again: its log must be readable at any time."""
    owner = await session(connection)
    never = await submit(connection)
    assert await store.attempt_place(connection, never, None) is None
    task = await running(connection, owner, needs="place", max_attempts=3)
    place = await store.attempt_place(connection, task.id, None)
    assert place is not None
    assert (place.attempt, place.day, place.ended) == (1, task.day, False)
    says = {"stdout_bytes": 10, "stdout_crc": 1, "stderr_bytes": 20, "stderr_crc": 2**32 - 1}
    result = ended(task, owner, "failed", "exit", **says)
    await result_store.finish_many(connection, [result], 1)
    for asked in (None, 1):
        place = await store.attempt_place(connection, task.id, asked)
        assert place is not None
        assert (place.attempt, place.ended, place.pulled) == (1, True, False)
        assert (place.stdout, place.stderr) == (StreamTotal(10, 1), StreamTotal(20, 2**32 - 1))
    await connection.execute("UPDATE tasks SET status = 'pending' WHERE id = $1", task.id)
    (again,) = await claim(connection, [await lanes_of(connection, "place")], [owner])
    newest = await store.attempt_place(connection, task.id, None)
    assert newest is not None
    assert (newest.attempt, newest.ended, newest.stdout) == (2, False, None)
    assert await store.attempt_place(connection, task.id, 1) == place
    assert await store.attempt_place(connection, task.id, 3) is None
    await result_store.finish_many(connection, [ended(again, owner, "succeeded", "exit")], 1)
    newest = await store.attempt_place(connection, task.id, None)
    assert newest is not None
    assert (newest.attempt, newest.ended) == (2, True)


# Partitions


async def test_partitions_are_made_from_yesterday_on(connection: asyncpg.Connection) -> None:
    """A claim just before midnight has its day, and so has one after the next outage."""
    today = await store.today(connection)
    made = await store.add_days(connection, 2)
    wanted = {today + timedelta(days=number) for number in (-1, 0, 1, 2)}
    assert made == wanted == await store.list_days(connection)
    assert await store.add_days(connection, 3) == wanted | {today + timedelta(days=3)}
    for day in wanted:
        await _copy(connection, [_chunk(b"x", day=day)])
    with pytest.raises(asyncpg.CheckViolationError):
        await _copy(connection, [_chunk(b"x", day=today - timedelta(days=2))])


async def test_expired_days_are_dropped_and_no_others(database_url: str) -> None:
    """Retention is one DROP a day instead of millions of deletes."""
    connection = await asyncpg.connect(database_url)
    try:
        days = [_DAY + timedelta(days=number) for number in range(4)]
        for day in days:
            await _make_day(connection, day)
            await _copy(connection, [_chunk(b"x", day=day)])
        assert await store.drop_days(connection, days[2]) == days[:2]
        assert await store.list_days(connection) == set(days[2:])
        assert [chunk.day for chunk in await _stored(connection)] == days[2:]
        assert await store.drop_days(connection, days[2]) == []
    finally:
        await connection.close()


async def test_a_drop_that_was_interrupted_is_finished(pair: Pair) -> None:
    """A reader held it up until its lock timeout: the next round must not stumble over it."""
    one, other = pair
    await _make_day(one, _DAY)
    await _make_day(one, _DAY + timedelta(days=1))
    await _copy(one, [_chunk(b"x")])
    reading = other.transaction()
    await reading.start()
    await other.fetch("SELECT * FROM log_chunks")
    await one.execute("SET lock_timeout = '50ms'")
    with pytest.raises(asyncpg.LockNotAvailableError):
        await one.execute(f"ALTER TABLE log_chunks DETACH PARTITION log_chunks_{_DAY:%Y%m%d}"
                          " CONCURRENTLY")  # fmt: skip
    assert await store.list_days(one) == {_DAY + timedelta(days=1)}
    await reading.rollback()
    assert await store.drop_days(one, _DAY + timedelta(days=1)) == [_DAY]
    assert await one.fetchval("SELECT to_regclass($1)", f"log_chunks_{_DAY:%Y%m%d}") is None


async def test_partitions_are_added_beside_readers_and_writers(pair: Pair) -> None:
    """Making tomorrow's partition must not stop the farm's logs."""
    one, other = pair
    await _make_day(one, _DAY)
    writing = other.transaction()
    await writing.start()
    await _copy(other, [_chunk(b"x")])
    await other.fetch("SELECT count(*) FROM log_chunks")
    await one.execute("SET lock_timeout = '2s'")
    assert len(await store.add_days(one, 1)) == 4
    await _copy(other, [_chunk(b"y", position=1)])
    await writing.commit()
    assert len(await _stored(one)) == 2
