"""Logs over HTTP: byte for byte, in order, honest about what is missing, in bounded memory."""

import gzip
import tracemalloc
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.store import logs as log_store
from api.store.logs import Chunk
from schema.claims import ClaimedTask
from tests.api.conftest import StartApi
from tests.api.server import BASE_US, Api, chunk, eventually, exited, total

_MIB = 1024 * 1024


async def _state(api: Api, number: int, **query: Any) -> tuple[str, str | None]:
    reply = await api.call("GET", f"/tasks/{number}/logs", params=query)
    assert reply.status == 200
    return reply.headers["log-state"], reply.headers.get("log-missing")


async def _stored(api: Api, pieces: list[bytes], **declared: Any) -> ClaimedTask:
    """Store a finished task whose stdout came in these pieces."""
    session, task = await api.started()
    chunks, offset = [], 0
    for number, piece in enumerate(pieces):
        chunks.append(chunk(task.lease, piece, offset=offset, at=number))
        offset += len(piece)
    verdicts = await api.report(session, chunks, [exited(task.lease, **declared)])
    assert set(verdicts) == {"ok"}
    return task


async def test_a_log_is_open_until_its_attempt_ends(api: Api) -> None:
    """A follower knows when to stop asking."""
    number = await api.submit()
    assert await _state(api, number) == ("open", None)
    session, task = await api.started()
    assert await _state(api, task.id) == ("open", None)
    await api.report(session, [chunk(task.lease, b"x\n")])
    assert await _state(api, task.id) == ("open", None)
    assert await api.log(task.id) == "x\n"
    nothing = total(b"")
    result = exited(task.lease, stdout=total(b"x\n"), stderr=nothing)
    await api.report(session, [], [result])
    assert await _state(api, task.id) == ("complete", None)


async def test_an_open_log_shows_only_what_joins(api: Api) -> None:
    """A chunk that overtook another one must not be read before it and then move."""
    session, task = await api.started()
    await api.report(session, [chunk(task.lease, b"3\n", offset=4)])
    assert await api.log(task.id) == ""
    await api.report(session, [chunk(task.lease, b"1\n")])
    assert await api.log(task.id) == "1\n"
    assert await api.log(task.id, stream="stdout", offset=2) == ""
    await api.report(session, [chunk(task.lease, b"2\n", offset=2)])
    assert await api.log(task.id, stream="stdout", offset=2) == "2\n3\n"


async def test_missing_ranges_are_named_to_the_byte(api: Api) -> None:
    """Of both streams, in the task and in the header; what is there is shown."""
    session, task = await api.started()
    chunks = [
        chunk(task.lease, b"bbb\n", offset=4, at=1),
        chunk(task.lease, b"ddd\n", offset=12, at=2),
        chunk(task.lease, b"err\n", stream="stderr", at=3),
    ]
    declared: dict[str, Any] = {"stdout": {"bytes": 20, "crc": 0}, "stderr": {"bytes": 5, "crc": 0}}
    await api.report(session, chunks, [exited(task.lease, **declared)])
    over = await api.task(task.id)
    assert isinstance(over.logs, dict)
    assert over.logs["stdout"].missing == ((0, 4), (8, 12), (16, 20))
    assert over.logs["stdout"].bytes == 8
    assert over.logs["stderr"].missing == ((4, 5),)
    assert await _state(api, task.id) == (
        "missing", "stdout=0-3, stdout=8-11, stdout=16-19, stderr=4-4",
    )  # fmt: skip
    assert await _state(api, task.id, stream="stderr") == ("missing", "stderr=4-4")
    assert await api.log(task.id) == "bbb\nddd\nerr\n"
    await api.report(session, [chunk(task.lease, b"aaa\n")])
    assert (await _state(api, task.id))[1] == "stdout=8-11, stdout=16-19, stderr=4-4"


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
async def test_a_log_of_other_bytes_than_were_written_says_so(api: Api, stream: str) -> None:
    """All bytes are there, in two chunks; only the CRC of the whole tells that they are others."""
    session, task = await api.started()
    chunks = [chunk(task.lease, b"one\n", stream=stream, at=1),
              chunk(task.lease, b"2wo\n", stream=stream, offset=4, at=2)]  # fmt: skip
    declared: dict[str, Any] = {"stdout": total(b""), "stderr": total(b"")}
    declared |= {stream: total(b"one\ntwo\n")}
    await api.report(session, chunks, [exited(task.lease, **declared)])
    assert await _state(api, task.id) == ("damaged", None)
    assert await _state(api, task.id, stream=stream) == ("damaged", None)
    other = "stderr" if stream == "stdout" else "stdout"
    assert await _state(api, task.id, stream=other) == ("complete", None)
    packed = await api.call("GET", f"/tasks/{task.id}/logs.gz", params={"stream": stream})
    assert packed.headers["log-state"] == "damaged"
    over = await api.task(task.id)
    assert isinstance(over.logs, dict)
    assert (over.logs["stdout"].state == "damaged") is (stream == "stdout")
    assert await api.log(task.id) == "one\n2wo\n"


async def test_bytes_that_were_sent_in_two_chunks_are_shown_once(api: Api) -> None:
    """A broken agent cut its stream anew: it is told, and places stay those of bytes."""
    session, task = await api.started()
    whole = b"a\nb\nc\nd\ne\n"
    chunks = [
        chunk(task.lease, b"a\nb\nc\n", at=1),
        chunk(task.lease, b"b\n", offset=2, at=3),
        chunk(task.lease, b"c\nd\ne\n", offset=4, marks=[(0, BASE_US), (4, BASE_US + 8000)]),
    ]
    result = exited(task.lease, stdout=total(whole), stderr=total(b""))
    assert await api.report(session, chunks, [result]) == ["ok"] * 4
    assert await _state(api, task.id) == ("damaged", None)
    for offset in range(len(whole) + 1):
        rest = await api.log(task.id, stream="stdout", offset=offset)
        assert rest.encode() == whole[offset:], offset
    stamped = (await api.log(task.id, timestamps="iso")).splitlines()
    assert [line[20:] for line in stamped] == ["001Z a", "001Z b", "001Z c", "000Z d", "008Z e"]
    over = await api.task(task.id)
    assert isinstance(over.logs, dict)
    assert (over.logs["stdout"].state, over.logs["stdout"].bytes) == ("damaged", len(whole))
    packed = await api.call("GET", f"/tasks/{task.id}/logs.gz", params={"stream": "stdout"})
    assert gzip.decompress(packed.body) == b"a\nb\nc\nb\nc\nd\ne\n"


async def test_a_log_without_totals_is_undeclared(api: Api) -> None:
    """Its agent was lost, or is a compatible one: nobody can say that it is whole."""
    task = await _stored(api, [b"x\n"])
    assert await _state(api, task.id) == ("undeclared", None)


async def test_an_expired_log_says_so(own_api: Api, database: asyncpg.Connection) -> None:
    """An empty log that was never written must look different."""
    task = await _stored(own_api, [b"x\n"], stdout=total(b"x\n"), stderr=total(b""))
    day = await database.fetchval("SELECT day FROM tasks WHERE id = $1", task.id)
    await database.execute(f"DROP TABLE log_chunks_{day:%Y%m%d}")
    assert await _state(own_api, task.id) == ("expired", None)
    assert await own_api.log(task.id) == ""


async def test_the_tail_is_the_last_lines_of_both_streams(api: Api) -> None:
    """What people look at first."""
    session, task = await api.started()
    chunks = [
        chunk(task.lease, b"a\nb\n", marks=[(0, BASE_US), (2, BASE_US + 3)]),
        chunk(task.lease, b"x\ny", stream="stderr", marks=[(0, BASE_US + 2), (2, BASE_US + 5)]),
    ]
    await api.report(session, chunks)
    assert await api.log(task.id) == "a\nx\nb\ny"
    assert await api.log(task.id, tail=2) == "b\ny"
    assert await api.log(task.id, tail=0) == ""
    assert await api.log(task.id, tail=99) == "a\nx\nb\ny"
    assert await api.log(task.id, stream="stderr", tail=1) == "y"


async def test_timestamps_are_those_of_the_marks(api: Api) -> None:
    """In UTC, to the millisecond; a chunk without marks counts from its arrival."""
    session, task = await api.started()
    marks = [(0, BASE_US + 1_234_567), (4, BASE_US + 2_000_000)]
    await api.report(session, [chunk(task.lease, b"a\nb\nc\n", marks=marks)])
    assert await api.log(task.id, timestamps="iso") == (
        "2026-01-01T00:00:01.234Z a\n2026-01-01T00:00:01.234Z b\n2026-01-01T00:00:02.000Z c\n"
    )
    other_session, other = await api.started()
    await api.report(other_session, [chunk(other.lease, b"x\n")])
    elapsed, text = (await api.log(other.id, timestamps="elapsed")).split()
    assert (text, 0 <= float(elapsed) < 60) == ("x", True)


async def test_a_stream_is_given_from_any_byte_on(api: Api) -> None:
    """A download that broke goes on; a follower asks for what is new."""
    pieces = [b"one\n", b"two", b"\nthree\n", b"4"]
    whole = b"".join(pieces)
    task = await _stored(api, pieces)
    for offset in range(len(whole) + 3):
        part = await api.log(task.id, stream="stdout", offset=offset)
        assert part.encode() == whole[offset:], offset


@given(
    pieces=st.lists(st.binary(min_size=1, max_size=50), min_size=1, max_size=6),
    repeat=st.integers(1, 3000),
)
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_bytes_are_given_back(api: Api, pieces: list[bytes], repeat: int) -> None:
    """Tests print binaries, broken UTF-8 and NULs."""
    pieces = [piece * repeat for piece in pieces]
    task = await _stored(api, pieces)
    raw = await api.call("GET", f"/tasks/{task.id}/logs", params={"stream": "stdout"})
    assert raw.body == b"".join(pieces)
    packed = await api.call("GET", f"/tasks/{task.id}/logs.gz", params={"stream": "stdout"})
    assert packed.headers["content-type"] == "application/gzip"
    assert gzip.decompress(packed.body) == raw.body
    merged = await api.call("GET", f"/tasks/{task.id}/logs")
    assert merged.body == raw.body


async def test_logs_gz_are_the_stored_members(api: Api) -> None:
    """Nothing is inflated for a download; its bytes are those that the agent sent."""
    session, task = await api.started()
    members = [gzip.compress(b"a\n", 9, mtime=7), gzip.compress(b"b\n", 1, mtime=8)]
    chunks = [
        chunk(task.lease, b"a\n") | {"content": members[0]},
        chunk(task.lease, b"b\n", offset=2) | {"content": members[1]},
    ]
    await api.report(session, chunks)
    reply = await api.call("GET", f"/tasks/{task.id}/logs.gz", params={"stream": "stdout"})
    assert reply.body == b"".join(members)
    empty = await api.call("GET", f"/tasks/{task.id}/logs.gz", params={"stream": "stderr"})
    assert gzip.decompress(empty.body) == b""
    missing = await api.call("GET", f"/tasks/{task.id}/logs.gz")
    missing.problem(400, "stream")


async def test_an_attempt_that_never_was_is_a_404(api: Api) -> None:
    """And not an empty log."""
    task = await _stored(api, [b"x"])
    reply = await api.call("GET", f"/tasks/{task.id}/logs", params={"attempt": 2})
    reply.problem(404, f"task {task.id}", "attempt 2")


@pytest.mark.parametrize("query", ["", "?stream=stdout", "?timestamps=iso", "?tail=1"])
async def test_one_line_of_100_megabytes_takes_little_memory(
    start_api: StartApi, database: asyncpg.Connection, query: str
) -> None:
    """A build log without newlines must not bring the server down, however it is asked for."""
    async with start_api() as api:
        _, task = await api.started()
        day = await database.fetchval("SELECT day FROM tasks WHERE id = $1", task.id)
        content = gzip.compress(b"x" * _MIB)
        rows = [
            Chunk(day, task.id, 1, 1, number * _MIB, _MIB, 0, 0, b"", content)
            for number in range(100)
        ]
        await log_store.copy_chunks(database, log_store.binary_rows(rows))
        size = 0
        tracemalloc.start()
        try:
            async with api.http.get(f"{api.url}/tasks/{task.id}/logs{query}") as reply:
                assert reply.status == 200
                async for piece in reply.content.iter_chunked(_MIB):
                    size += len(piece)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    # The tail gives at most 8 MiB; a timestamp is 25 bytes.
    expected = (
        range(7 * _MIB, 9 * _MIB + 1) if "tail" in query else range(100 * _MIB, 100 * _MIB + 30)
    )
    assert size in expected, size
    assert peak < 30 * _MIB, f"{peak / _MIB:.0f} MiB"


async def test_a_reader_that_goes_away_frees_its_connection(start_api: StartApi) -> None:
    """A closed browser tab must not hold one of few database connections."""
    async with start_api(pool_size=4) as api:
        task = await _stored(api, [b"x\n" * 100_000 for _ in range(3)])
        for _ in range(20):
            async with api.http.get(f"{api.url}/tasks/{task.id}/logs") as reply:
                await reply.content.readany()
                reply.close()

        async def alive() -> int:
            return (await api.call("GET", f"/tasks/{task.id}")).status

        assert await eventually(alive, lambda status: status == 200) == 200
