"""What viewers of live logs look at."""

from datetime import date

import asyncpg

from api import members
from api.store import live as store
from api.store import logs as log_store
from api.store import results as result_store
from api.store.live import Ask, Member, Seen
from api.store.logs import Chunk
from tests.store.support import claim, ended, lanes_of, running, session, submit


async def _store(connection: asyncpg.Connection, *chunks: Chunk) -> None:
    await log_store.add_days(connection, 1)
    await log_store.copy_chunks(connection, log_store.binary_rows(chunks))


def _chunk(task: int, day: date, position: int, data: bytes, stream: int = 1) -> Chunk:
    content = members.deflate(data)
    return Chunk(day, task, 1, stream, position, len(data), data.count(b"\n"), 0, b"", content)


async def test_a_look_sees_what_tasks_are_and_what_is_new_of_their_logs(
    connection: asyncpg.Connection,
) -> None:
    """One statement for many tasks; chunks only of the attempt that is known, and behind it."""
    owner = await session(connection, "looker")
    task = await running(connection, owner, needs="look")
    waiting = await submit(connection, needs=("look",))
    await _store(
        connection,
        _chunk(task.id, task.day, 0, b"a\n"),
        _chunk(task.id, task.day, 2, b"b\nc\n"),
        _chunk(task.id, task.day, 6, b"d\n"),
        _chunk(task.id, task.day, 0, b"err", stream=2),
    )
    asked = [
        Ask(task.id, task.day, 1, 0, -1),
        Ask(waiting, store.NO_DAY, 0, -1, -1),
        Ask(9_999_999, store.NO_DAY, 0, -1, -1),
    ]
    seen = {each.task: each for each in await store.look_many(connection, asked)}
    assert set(seen) == {task.id, waiting}
    now = seen[task.id]
    assert (now.status, now.attempt, now.agent, now.session) == ("in_progress", 1, "looker", owner)
    assert now.stdout == ((2, 4, 2), (6, 2, 1))
    assert now.stderr == ((0, 3, 0),)
    assert (seen[waiting].status, seen[waiting].attempt, seen[waiting].stdout) == ("pending", 0, ())
    (other,) = await store.look_many(connection, [Ask(task.id, task.day, 2, -1, -1)])
    assert (other.stdout, other.stderr) == ((), ()), "another attempt is the newest"


async def test_a_look_at_a_task_that_ended(connection: asyncpg.Connection) -> None:
    """How it went, and how long ago: a legacy agent may still send a batch."""
    owner = await session(connection, "ends")
    task = await running(connection, owner, needs="look-end")
    over = ended(task, owner, "failed", "exit", exit_code=3, run_s=1.5)
    assert await result_store.finish_many(connection, [over], 5)
    (seen,) = await store.look_many(connection, [Ask(task.id, store.NO_DAY, 0, -1, -1)])
    assert isinstance(seen, Seen)
    assert (seen.status, seen.exit_code, seen.run_s) == ("failed", 3, 1.5)
    assert seen.over_s is not None
    assert 0 <= seen.over_s < 60


async def test_chunks_of_many_logs_are_read_together(connection: asyncpg.Connection) -> None:
    """Those that are there."""
    owner = await session(connection, "reads")
    one = await running(connection, owner, needs="read-one")
    two = await running(connection, owner, needs="read-two")
    await _store(
        connection, _chunk(one.id, one.day, 0, b"a\n"), _chunk(two.id, two.day, 5, b"b\n", 2)
    )
    keys = [(one.day, one.id, 1, 1, 0), (two.day, two.id, 1, 2, 5), (two.day, two.id, 1, 2, 9)]
    found = await store.read_many(connection, keys)
    assert {key: members.inflate(chunk.content, 10) for key, chunk in found.items()} == {
        keys[0]: b"a\n", keys[1]: b"b\n",
    }  # fmt: skip


async def test_members_of_a_group_come_by_number(connection: asyncpg.Connection) -> None:
    """In pages."""
    numbers = [await submit(connection, group="members", needs=("members",)) for _ in range(4)]
    await submit(connection, group="others", needs=("members",))
    owner = await session(connection, "members")
    await claim(connection, [await lanes_of(connection, "members")], [owner])
    members = await store.group_members(connection, "members", 0, 3)
    assert members == [
        Member(numbers[0], "in_progress", 1, cancel_requested=False),
        *(Member(number, "pending", 0, cancel_requested=False) for number in numbers[1:3]),
    ]
    (last,) = await store.group_members(connection, "members", numbers[2], 3)
    assert last.task == numbers[3]
