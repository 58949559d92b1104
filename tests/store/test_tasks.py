"""Tasks: stored together or not at all, keys that double nothing, cancels, retries, due times."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from api.store import lanes as lane_store
from api.store import results as result_store
from api.store import tasks as store
from api.store.tasks import KeyConflictError
from schema.tasks import FINAL, Submission
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
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
_SOON = datetime(2199, 1, 1, tzinfo=UTC)


async def test_a_submission_is_stored_as_it_was_sent(connection: asyncpg.Connection) -> None:
    """Every field, characters of all kinds, nothing invented."""
    sent = Submission(
        command="echo 'ä\t\n'", name="näme", group="group 1", env={"A": "1\n", "B": ""},
        cwd="/tmp/ü", needs=("b", "a", "b"), priority=9, timeout=1.5, no_output_timeout=0.5,
        max_attempts=3, run_after=_SOON, exclusive=True, key="k1", isolation="docker", image="i:1",
    )  # fmt: skip
    (answer,) = await submit_all(connection, [sent])
    assert (answer.status, answer.created) == ("scheduled", True)
    task = await get(connection, answer.id)
    for field in (
        "command", "name", "group", "env", "cwd", "priority", "timeout", "no_output_timeout",
        "max_attempts", "run_after", "exclusive", "key", "isolation", "image",
    ):  # fmt: skip
        assert getattr(task, field) == getattr(sent, field), field
    assert task.needs == ("a", "b")
    assert (task.status, task.attempt, task.reason, task.agent) == ("scheduled", 0, None, None)


@pytest.mark.parametrize("most", [1, 25_000, 10**9])
async def test_a_page_ends_where_it_is_large(connection: asyncpg.Connection, most: int) -> None:
    """Commands and variables count; what is left out comes with the next page, nothing twice."""
    env = {"A": "y" * 500}
    sent = [Submission(command="x" * 500, env=env, needs=("page",)) for _ in range(90)]
    ids = [answer.id for answer in await submit_all(connection, sent)]
    ids.sort(reverse=True)
    seen: list[int] = []
    while len(seen) < len(ids):
        tasks, read = await store.get_page(connection, ids[len(seen) :], most)
        assert 0 < read == len(tasks)
        assert read * 1000 < most + 25_000
        seen += [task.id for task in tasks]
    assert seen == ids
    assert await store.get_page(connection, [], most) == ([], 0)


async def test_answers_come_in_the_order_of_the_submission(connection: asyncpg.Connection) -> None:
    """Whoever submits an array finds his tasks by their places in it."""
    sent = [
        Submission(command=f"{n}", key=f"order-{n}" if n % 3 == 0 else None, needs=(f"o{n % 2}",))
        for n in range(60)
    ]
    answers = await submit_all(connection, sent)
    ids = [answer.id for answer in answers]
    found = await store.get_many(connection, ids)
    tasks = {task.id: task.command for task in found}
    assert [tasks[answer.id] for answer in answers] == [each.command for each in sent]
    again = await submit_all(connection, sent)
    assert [a.id == b.id for a, b in zip(answers, again, strict=True)] == [
        n % 3 == 0 for n in range(60)
    ]


async def test_a_past_time_does_not_wait(connection: asyncpg.Connection) -> None:
    """`run_after` names the earliest moment, which may have been."""
    (answer,) = await submit_all(connection, [Submission(command="x", run_after=_LONG_AGO)])
    assert answer.status == "pending"


async def test_a_key_is_one_task(connection: asyncpg.Connection) -> None:
    """A reply was lost, the client submits again: nothing doubles, also within one array."""
    sent = [Submission(command="x", key="same"), Submission(command="x", key="same")]
    first = await submit_all(connection, sent)
    again = await submit_all(connection, [*sent, Submission(command="y", key="new")])
    assert {answer.id for answer in first} == {answer.id for answer in again[:2]} == {first[0].id}
    assert [answer.created for answer in first + again] == [True, False, False, False, True]


@pytest.mark.parametrize(
    "other",
    [
        {"command": "y"},
        {"priority": 6},
        {"env": {"A": "1"}},
        {"needs": ("a",)},
        {"timeout": 1.0},
        {"no_output_timeout": 1.0},
        {"isolation": "bwrap"},
        {"image": "i"},
    ],
)
async def test_a_key_with_another_body_stores_nothing(
    connection: asyncpg.Connection, other: dict[str, Any]
) -> None:
    """Two different tasks under one key is a mistake that must be seen."""
    await submit(connection, command="x", key="taken")
    count = await connection.fetchval("SELECT count(*) FROM tasks")
    body: dict[str, Any] = {"command": "x", "key": "taken"} | other
    with pytest.raises(KeyConflictError, match="taken"):
        await submit_all(connection, [Submission(command="new"), Submission(**body)])
    assert await connection.fetchval("SELECT count(*) FROM tasks") == count


async def test_a_key_that_an_older_server_stored_stays(connection: asyncpg.Connection) -> None:
    """A nightly run that is submitted again after an upgrade must find its tasks.

    The digest is what version 0.1 computed, before `no_output_timeout` was known.
    """
    sent = Submission(command="echo", key="night 7", needs=("b", "a"), timeout=5.0)
    number = await submit(connection)
    await connection.execute(
        "UPDATE tasks SET key = $1, key_digest = $2 WHERE id = $3", sent.key,
        bytes.fromhex("0b5f93c0f311e8dfdabe687db3692fd6b48d4061786a8b0b5df0324bc30e07de"), number,
    )  # fmt: skip
    (answer,) = await submit_all(connection, [sent])
    assert (answer.id, answer.created) == (number, False)


async def test_two_submissions_of_one_key_at_once_make_one_task(pair: Pair) -> None:
    """A client that gave up waiting sends again while the first one is still being stored."""
    one, other = pair
    sent = [Submission(command="x", key="race")]
    await lane_store.add_lanes(one, [()])
    transaction = one.transaction()
    await transaction.start()
    (first,) = await submit_all(one, sent)
    async with asyncio.TaskGroup() as group:
        racing = group.create_task(submit_all(other, sent))
        await waits_for_lock(one, other.get_server_pid())
        await transaction.commit()
    assert [(answer.id, answer.created) for answer in racing.result()] == [(first.id, False)]


@pytest.mark.parametrize("state", ["pending", "scheduled", "pulled"])
async def test_a_cancel_ends_what_has_nobody_to_ask(
    connection: asyncpg.Connection, state: str
) -> None:
    """What has not started, or is in the hands of an agent that cannot be told, ends at once."""
    if state == "pulled":
        number = (await running(connection, None, needs="cancel-pulled")).id
    else:
        number = await submit(connection, run_after=_SOON if state == "scheduled" else None)
    cancelled = await store.cancel(connection, number, "tester")
    assert cancelled is not None
    assert (cancelled.status, cancelled.session) == ("cancelled", None)
    task = await get(connection, number)
    assert (task.status, task.reason) == ("cancelled", "cancelled")
    assert task.finished_at is not None
    assert await store.cancel(connection, number, "tester") is None


async def test_a_cancel_of_a_running_task_asks_its_agent(connection: asyncpg.Connection) -> None:
    """The process still runs: the task is over when its agent says so, and not before."""
    owner = await session(connection)
    task = await running(connection, owner, needs="cancel")
    for _ in range(2):
        cancelled = await store.cancel(connection, task.id, "tester")
        assert cancelled is not None
        assert (cancelled.status, cancelled.session) == ("in_progress", owner)
    assert (await get(connection, task.id)).cancel_requested


async def test_what_is_over_or_was_never_there_is_not_cancelled(
    connection: asyncpg.Connection,
) -> None:
    """A result that committed first wins."""
    owner = await session(connection)
    task = await running(connection, owner, needs="over")
    await result_store.finish_many(connection, [ended(task, owner, "succeeded", "exit")], 1)
    assert await store.cancel(connection, task.id, "tester") is None
    assert (await get(connection, task.id)).status == "succeeded"
    assert await store.cancel(connection, 10**15, "tester") is None


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "cancelled"])
async def test_a_retry_runs_a_finished_task_anew(
    connection: asyncpg.Connection, outcome: str
) -> None:
    """With all its attempts before it, and the attempt that was goes to the history."""
    owner = await session(connection)
    task = await running(connection, owner, needs="retry")
    await connection.execute("UPDATE tasks SET failures = 0, crashes = 2 WHERE id = $1", task.id)
    reason = "cancelled" if outcome == "cancelled" else "exit"
    result = ended(task, owner, outcome, reason, message="first", stdout_bytes=5)
    await result_store.finish_many(connection, [result], 1)
    later = await submit(connection, needs=("retry",))
    queued = await store.retry(connection, task.id, 1, "tester")
    lane = await lanes_of(connection, "retry")
    assert queued is not None
    assert queued.lane == lane
    row = await connection.fetchrow("SELECT * FROM tasks WHERE id = $1", task.id)
    assert row is not None
    assert (row["status"], row["failures"], row["crashes"], row["attempt"]) == ("pending", 0, 0, 1)
    assert [row[column] for column in ("reason", "message", "finished_at", "stdout_bytes")] == [
        None
    ] * 4
    (history,) = await store.earlier_attempts(connection, task.id)
    assert (history.attempt, history.message, history.agent) == (1, "first", "tester")
    tasks = await claim(connection, [lane], [owner, owner])
    assert [(each.id, each.attempt) for each in tasks] == [(later, 1), (task.id, 2)]


async def test_a_retry_follows_the_attempt_that_it_names(connection: asyncpg.Connection) -> None:
    """Sent again after a lost reply it must not run the task a third time."""
    owner = await session(connection)
    task = await running(connection, owner, needs="follow")
    assert await store.retry(connection, task.id, None, "tester") is None
    await result_store.finish_many(connection, [ended(task, owner, "succeeded", "exit")], 1)
    assert await store.retry(connection, task.id, 2, "tester") is None
    assert await store.retry(connection, task.id, 1, "tester") is not None
    assert await store.retry(connection, task.id, 1, "tester") is None
    (again,) = await claim(connection, [await lanes_of(connection, "follow")], [owner])
    await result_store.finish_many(connection, [ended(again, owner, "succeeded", "exit")], 1)
    assert await store.retry(connection, task.id, 1, "tester") is None
    assert await store.retry(connection, task.id, None, "tester") is not None


async def test_a_task_that_never_ran_has_no_attempt_to_keep(
    connection: asyncpg.Connection,
) -> None:
    """Cancelled while it waited, then run again."""
    number = await submit(connection, needs=("never",))
    await store.cancel(connection, number, "tester")
    assert await store.retry(connection, number, 0, "tester") is not None
    assert await store.earlier_attempts(connection, number) == ()
    owner = await session(connection)
    (task,) = await claim(connection, [await lanes_of(connection, "never")], [owner])
    assert task.attempt == 1


async def test_due_tasks_join_the_end_of_their_queue(connection: asyncpg.Connection) -> None:
    """They are not claimed before their time, and after it not before those who waited."""
    owner = await session(connection)
    due = await submit(connection, needs=("due",), run_after=_SOON)
    later = await submit(connection, needs=("due",), run_after=_SOON + timedelta(days=1))
    waits = await submit(connection, needs=("due",))
    assert await store.promote_due(connection) == []
    await connection.execute("UPDATE tasks SET run_after = now() WHERE id = $1", due)
    next_s = await store.next_due(connection)
    assert next_s is not None
    assert next_s <= 0
    (queued,) = await store.promote_due(connection)
    lane = await lanes_of(connection, "due")
    assert queued.lane == lane
    tasks = await claim(connection, [lane], [owner] * 3)
    assert [task.id for task in tasks] == [waits, due]
    assert (await get(connection, later)).status == "scheduled"
    next_s = await store.next_due(connection)
    assert next_s is not None
    assert next_s > 86_400


async def test_no_scheduled_task_is_no_time(connection: asyncpg.Connection) -> None:
    """Then the reaper looks again after its longest pause."""
    assert await store.next_due(connection) is None


async def test_a_list_is_filtered_and_goes_on_below_its_cursor(
    connection: asyncpg.Connection,
) -> None:
    """Filters join with `and`; pages neither skip nor repeat."""
    owner = await session(connection, "lister")
    mine = [await submit(connection, group="list", name=f"n{n % 2}") for n in range(5)]
    run = await running(connection, owner, needs="list", group="list", name="n0")
    await submit(connection, group="other", name="n0")
    everything: dict[str, Any] = {
        "below": 2**63 - 1, "status": None, "group": "list", "name": None, "agent": None,
        "limit": 100,
    }  # fmt: skip
    newest = [run.id, *reversed(mine)]
    assert await store.list_ids(connection, **everything) == newest
    page = await store.list_ids(connection, **(everything | {"limit": 2}))
    rest = await store.list_ids(connection, **(everything | {"below": page[-1]}))
    assert page + rest == newest
    for changed, expected in (
        ({"name": "n1"}, [mine[3], mine[1]]),
        ({"status": ["in_progress", "failed"]}, [run.id]),
        ({"status": ["in_progress"], "name": "n1"}, []),
        ({"agent": "lister"}, [run.id]),
        ({"agent": "nobody"}, []),
    ):
        assert await store.list_ids(connection, **(everything | changed)) == expected, changed


async def test_the_queue_is_counted_by_status(connection: asyncpg.Connection) -> None:
    """What `/metrics` says of the present; what is over does not count."""
    await connection.execute("DELETE FROM tasks")
    assert await store.queue_depth(connection) == {}
    await submit(connection)
    await submit(connection, run_after=_SOON)
    await running(connection, await session(connection), needs="depth")
    await store.cancel(connection, await submit(connection), "tester")
    depth = await store.queue_depth(connection)
    assert depth == {"pending": 1, "scheduled": 1, "in_progress": 1}
    assert not FINAL & depth.keys()


async def test_lanes_are_made_once(connection: asyncpg.Connection) -> None:
    """Two processes meet the same new needs; the empty set is a lane too."""
    wanted: list[tuple[str, ...]] = [(), ("a=1",), ("a=1", "b")]
    await lane_store.add_lanes(connection, wanted)
    first = await lane_store.all_lanes(connection)
    await lane_store.add_lanes(connection, [*wanted, ("c",)])
    second = await lane_store.all_lanes(connection)
    assert {needs: second[needs] for needs in wanted} == {needs: first[needs] for needs in wanted}
    assert ("c",) in second
    assert len(set(second.values())) == len(second)
