"""Groups: counted, listed, cancelled and run again as a whole."""

import asyncio
from datetime import UTC, datetime

import asyncpg
import pytest

from api.store import groups as store
from api.store import results as result_store
from api.store import tasks as task_store
from api.store.groups import Stretch
from schema.tasks import Group, Submission
from tests.store.support import (
    claim,
    ended,
    get,
    lanes_of,
    running,
    session,
    submit,
    submit_all,
    waits_for_lock,
)

Pair = tuple[asyncpg.Connection, asyncpg.Connection]
_ALL = 2**62


async def _counted(connection: asyncpg.Connection, name: str) -> Group | None:
    return (await store.count_many(connection, [name])).get(name)


async def _audited(connection: asyncpg.Connection, about: str) -> list[tuple[str, int, int]]:
    rows = await connection.fetch(
        "SELECT action, task, tasks FROM audit WHERE about = $1 ORDER BY id", about
    )
    return [tuple(row) for row in rows]


async def test_a_group_counts_its_tasks_and_knows_when_it_is_over(
    connection: asyncpg.Connection,
) -> None:
    """A test run is over when its last task is."""
    assert await _counted(connection, "run 1") is None
    numbers = [await submit(connection, group="run 1") for _ in range(3)]
    await task_store.cancel(connection, numbers[0], "tester")
    group = await _counted(connection, "run 1")
    assert group is not None
    assert (group.counts, group.total) == ({"cancelled": 1, "pending": 2}, 3)
    assert group.finished_at is None
    for number in numbers[1:]:
        await task_store.cancel(connection, number, "tester")
    group = await _counted(connection, "run 1")
    assert group is not None
    assert group.counts == {"cancelled": 3}
    assert group.finished_at is not None
    assert group.finished_at >= group.submitted_at


async def test_a_group_tells_machines_that_failed_from_tasks_that_failed(
    connection: asyncpg.Connection,
) -> None:
    """Whoever reads a nightly run must know whether to look at the tests or at the farm."""
    owner = await session(connection)
    for outcome, reason in (
        ("failed", "exit"), ("failed", "timeout"), ("succeeded", "exit"),
        ("cancelled", "cancelled"), ("lost", "agent_lost"), ("lost", "agent_lost"),
        ("unstarted", "spawn_error"),
    ):  # fmt: skip
        task = await running(connection, owner, needs="mixed", group="mixed")
        await result_store.finish_many(connection, [ended(task, owner, outcome, reason)], 1)
    group = await _counted(connection, "mixed")
    assert group is not None
    assert group.counts == {"failed": 5, "succeeded": 1, "cancelled": 1}
    assert group.infrastructure == 3


async def test_groups_are_listed_newest_first_and_once(connection: asyncpg.Connection) -> None:
    """By the submission that brought the name: a page must not shift while tasks are added."""
    for name in ("list a", "list b", "list a", "list C"):
        await submit(connection, group=name)
    await submit(connection)
    listed = await store.list_names(connection, below=_ALL, contains="list", limit=10)
    assert [name for _, name in listed] == ["list C", "list b", "list a"]
    rest = await store.list_names(connection, below=listed[0][0], contains="LIST", limit=1)
    assert rest == listed[1:2]
    assert await store.list_names(connection, below=_ALL, contains="list_", limit=10) == []


async def test_submissions_of_the_same_new_groups_wait_for_each_other_one_way(pair: Pair) -> None:
    """Whatever their order in the arrays: two that wait for each other would both be refused."""
    one, other = pair
    transaction = one.transaction()
    await transaction.start()
    await one.execute("INSERT INTO groups (name) VALUES ('circle a')")
    async with asyncio.TaskGroup() as group:
        sent = [Submission(command="x", group=name) for name in ("circle b", "circle a")]
        group.create_task(submit_all(other, sent))
        await waits_for_lock(one, other.get_server_pid())
        await one.execute("INSERT INTO groups (name) VALUES ('circle b')", timeout=10)
        await transaction.commit()
    assert sorted(await store.count_many(one, ["circle a", "circle b"])) == ["circle a", "circle b"]


async def test_a_group_is_cancelled_some_at_a_time(
    connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits ends, what runs is asked to, what is over stays; others' tasks are not touched."""
    monkeypatch.setattr(store, "AT_ONCE", 2)
    owner = await session(connection)
    over = await submit(connection, group="stop", command="over")
    await task_store.cancel(connection, over, "tester")
    runs = await running(connection, owner, needs="stop", group="stop")
    pulled = await running(connection, None, needs="stop pulled", group="stop")
    waits = [await submit(connection, group="stop") for _ in range(2)]
    waits.append(await submit(connection, group="stop", run_after=datetime(2199, 1, 1, tzinfo=UTC)))
    other = await submit(connection, group="stop another")
    last = await store.find_last(connection, "stop")
    assert last == waits[-1]
    late = await submit(connection, group="stop")
    above, seen = 0, []
    while (
        some := await store.cancel_some(connection, Stretch("stop", above, last), "tester")
    ) is not None:
        above = some.last
        seen.append(some)
    assert [(len(some.moved), some.cancelled, some.asked) for some in seen] == [
        (2, 1, 1),
        (2, 2, 0),
        (1, 1, 0),
    ]
    assert [some.sessions for some in seen] == [{owner}, set(), set()]
    for number in (pulled.id, *waits):
        task = await get(connection, number)
        assert (task.status, task.reason) == ("cancelled", "cancelled")
        assert task.finished_at is not None
    task = await get(connection, runs.id)
    assert (task.status, task.cancel_requested) == ("in_progress", True)
    assert [(await get(connection, each)).status for each in (other, late)] == ["pending"] * 2
    assert await _audited(connection, "stop") == [
        ("group cancelled", runs.id, 2),
        ("group cancelled", waits[0], 2),
        ("group cancelled", waits[2], 1),
    ]


async def test_what_was_asked_to_end_is_not_asked_again(connection: asyncpg.Connection) -> None:
    """Sent again after a lost reply, it tells the same and writes nothing."""
    owner = await session(connection)
    await running(connection, owner, needs="twice", group="twice")
    for moved in (1, 0):
        some = await store.cancel_some(connection, Stretch("twice", 0, _ALL), "tester")
        assert some is not None
        assert (len(some.moved), some.cancelled, some.asked) == (moved, 0, 1)
    assert len(await _audited(connection, "twice")) == 1


async def test_failed_tasks_run_again_and_keep_their_attempts(
    connection: asyncpg.Connection,
) -> None:
    """In the order of their numbers, behind all that waits; what succeeded is left alone."""
    owner = await session(connection)
    done = []
    for outcome, reason in (("failed", "exit"), ("succeeded", "exit"), ("cancelled", "cancelled")):
        task = await running(connection, owner, needs="again", group="again")
        await result_store.finish_many(connection, [ended(task, owner, outcome, reason)], 1)
        done.append(task.id)
    waits = await submit(connection, needs=("again",))
    never = await submit(connection, group="again")
    await task_store.cancel(connection, never, "tester")
    stretch = Stretch("again", 0, _ALL)
    some = await store.retry_some(connection, stretch, ("failed", "cancelled"), None, "tester")
    assert some is not None
    assert some.moved == [done[0], done[2], never]
    assert [each.queue_seq for each in some.queued] == sorted(
        each.queue_seq for each in some.queued
    )
    lane = await lanes_of(connection, "again")
    assert [each.lane for each in some.queued[:2]] == [lane, lane]
    first = await get(connection, done[0])
    assert (first.status, first.reason, first.attempt) == ("pending", None, 1)
    assert len(await task_store.earlier_attempts(connection, done[0])) == 1
    assert await task_store.earlier_attempts(connection, never) == ()  # it never ran
    claimed = await claim(connection, [lane], [owner] * 3)
    assert [(task.id, task.attempt) for task in claimed] == [(waits, 1), (done[0], 2), (done[2], 2)]
    assert (await get(connection, done[1])).status == "succeeded"
    assert await _audited(connection, "again") == [("group retried", done[0], 3)]


async def test_a_retry_that_is_sent_again_starts_nothing_twice(
    connection: asyncpg.Connection,
) -> None:
    """The reply was lost, and the task has failed once more meanwhile: that is a new failure."""
    owner = await session(connection)
    task = await running(connection, owner, needs="once more", group="once more")
    await result_store.finish_many(connection, [ended(task, owner, "failed", "exit")], 1)
    group = await _counted(connection, "once more")
    assert group is not None
    before = group.counted_at
    stretch = Stretch("once more", 0, _ALL)
    assert (await store.retry_some(connection, stretch, ["failed"], before, "tester")) is not None
    # Time stands still in a transaction: what comes later has to be made later.
    lane = await lanes_of(connection, "once more")
    (task,) = await claim(connection, [lane], [owner])
    await result_store.finish_many(connection, [ended(task, owner, "failed", "exit")], 1)
    await connection.execute(
        "UPDATE tasks SET finished_at = now() + interval '1 us' WHERE id = $1", task.id
    )
    assert await store.retry_some(connection, stretch, ["failed"], before, "tester") is None
    assert (await get(connection, task.id)).attempt == 2


async def test_the_slowest_stand_first(connection: asyncpg.Connection) -> None:
    """Also one that still runs: it may be the one that hangs."""
    owner = await session(connection)
    numbers = []
    for run_s in (1.5, 90.0, 3.0):
        task = await running(connection, owner, needs="slow", group="slow")
        result = ended(task, owner, "succeeded", "exit", run_s=run_s)
        await result_store.finish_many(connection, [result], 1)
        numbers.append(task.id)
    runs = await running(connection, owner, needs="slow", group="slow")
    await connection.execute(
        "UPDATE tasks SET started_at = now() - interval '1 minute' WHERE id = $1", runs.id
    )
    await submit(connection, group="slow")
    slowest = await store.list_slowest(connection, "slow", 3)
    assert slowest == [numbers[1], runs.id, numbers[2]]


async def _rows(connection: asyncpg.Connection, number: int) -> list[str]:
    """All of a task and its attempts but what names it."""
    rows = await connection.fetch(
        "SELECT to_jsonb(t) - ARRAY['id', 'queue_seq', 'group_name'] FROM tasks AS t WHERE id = $1"
        " UNION ALL SELECT to_jsonb(a) - ARRAY['task'] FROM attempts AS a WHERE task = $1",
        number,
    )
    return [row[0] for row in rows]


async def test_a_group_does_to_each_task_what_is_done_to_one(
    connection: asyncpg.Connection,
) -> None:
    """Two statements say it: a column that one of them forgets would be kept, or lost."""
    owner = await session(connection)
    numbers = []
    for group in ("alone", "together"):
        task = await running(connection, owner, needs="same", group=group)
        failed = ended(
            task, owner, "failed", "exit", exit_code=3, message="no", run_s=1.5, stdout_bytes=1,
            stdout_crc=2, stderr_bytes=3, stderr_crc=4, cut=1,
        )  # fmt: skip
        await result_store.finish_many(connection, [failed], 5)
        numbers.append(task.id)
    await connection.execute(
        "UPDATE tasks SET failures = 2, crashes = 1, cancel_requested = true, signal = 9,"
        " run_after = now(), finished_at = now() WHERE id = ANY ($1)", numbers
    )  # fmt: skip
    alone, together = numbers
    assert await _rows(connection, alone) == await _rows(connection, together)
    await task_store.retry(connection, alone, None, "tester")
    stretch = Stretch("together", 0, _ALL)
    assert await store.retry_some(connection, stretch, ["failed"], None, "tester") is not None
    told = await _rows(connection, alone)
    assert len(told) == 2
    assert told == await _rows(connection, together)
    await task_store.cancel(connection, alone, "tester")
    assert await store.cancel_some(connection, stretch, "tester") is not None
    assert await _rows(connection, alone) == await _rows(connection, together)
