"""Results: what an attempt's end makes of its task, and that only the right one counts."""

from datetime import timedelta
from itertools import product
from typing import Any

import asyncpg
import pytest

from api.store import results as store
from api.store import tasks as task_store
from api.store.results import Ended
from schema.reports import Result
from tests.store.support import claim, ended, get, lanes_of, running, session, submit

_CRASH_LIMIT = 3
_REASON = {
    "succeeded": "exit",
    "failed": "exit",
    "cancelled": "cancelled",
    "lost": "agent_lost",
    "unstarted": "spawn_error",
    "returned": "returned",
}

# (before, outcome) → (status, failures, crashes): what is there before defaults to a task that may
# fail once, has not crashed, and that nobody cancelled.
_TABLE: list[tuple[dict[str, Any], str, tuple[str, int, int]]] = [
    ({}, "succeeded", ("succeeded", 0, 0)),
    ({}, "cancelled", ("cancelled", 0, 0)),
    ({}, "failed", ("failed", 0, 0)),
    ({"max_attempts": 2}, "failed", ("scheduled", 1, 0)),
    ({"max_attempts": 2, "failures": 1}, "failed", ("failed", 1, 0)),
    ({"max_attempts": 2, "crashes": 2}, "failed", ("scheduled", 1, 2)),
    ({}, "lost", ("pending", 0, 1)),
    ({"crashes": 1}, "lost", ("pending", 0, 2)),
    ({"crashes": 2}, "lost", ("failed", 0, 2)),
    ({"max_attempts": 2, "failures": 1}, "lost", ("pending", 1, 1)),
    ({}, "unstarted", ("scheduled", 0, 1)),
    ({"crashes": 2}, "unstarted", ("failed", 0, 2)),
    ({}, "returned", ("pending", 0, 0)),
    ({"crashes": 2, "failures": 1}, "returned", ("pending", 1, 2)),
    ({"cancel_requested": True}, "succeeded", ("succeeded", 0, 0)),
    ({"cancel_requested": True, "max_attempts": 5}, "failed", ("failed", 0, 0)),
    ({"cancel_requested": True}, "cancelled", ("cancelled", 0, 0)),
    ({"cancel_requested": True}, "lost", ("cancelled", 0, 0)),
    ({"cancel_requested": True}, "unstarted", ("cancelled", 0, 0)),
    ({"cancel_requested": True}, "returned", ("cancelled", 0, 0)),
]


@pytest.mark.parametrize(
    ("before", "outcome", "after"), _TABLE, ids=[f"{row[1]}-{row[0]}" for row in _TABLE]
)
@pytest.mark.parametrize("pulled", [False, True], ids=["session", "pulled"])
async def test_an_outcome_decides_what_follows(
    connection: asyncpg.Connection,
    before: dict[str, Any],
    outcome: str,
    after: tuple[str, int, int],
    *,
    pulled: bool,
) -> None:
    """The whole table: a wrong cell runs a task too often, never again, or after its end."""
    owner = None if pulled else await session(connection)
    task = await running(connection, owner, needs="table")
    for column, value in before.items():
        await connection.execute(f"UPDATE tasks SET {column} = $1 WHERE id = $2", value, task.id)
    seq = await connection.fetchval("SELECT queue_seq FROM tasks WHERE id = $1", task.id)
    result = ended(task, owner, outcome, _REASON[outcome])
    (change,) = await store.finish_many(connection, [result], _CRASH_LIMIT)
    row = await connection.fetchrow("SELECT * FROM tasks WHERE id = $1", task.id)
    assert row is not None
    assert (row["status"], row["failures"], row["crashes"]) == after
    assert (change.task, change.attempt, change.status) == (task.id, 1, row["status"])
    final = row["status"] in {"succeeded", "failed", "cancelled"}
    assert (row["finished_at"] is not None) is final
    history = await task_store.earlier_attempts(connection, task.id)
    if final:
        wanted = "cancelled" if row["status"] == "cancelled" else _REASON[outcome]
        assert row["reason"] == wanted
        assert history == ()
    else:
        assert (row["session"], row["started_at"], row["reason"]) == (None, None, None)
        assert [(each.attempt, each.reason) for each in history] == [(1, _REASON[outcome])]
    assert (row["queue_seq"] == seq) is (outcome == "returned" or row["status"] != "pending")


@pytest.mark.parametrize(("failures", "crashes"), [(0, 0), (3, 0), (0, 4), (99, 0)])
async def test_the_pause_before_another_attempt_doubles_up_to_five_minutes(
    connection: asyncpg.Connection, failures: int, crashes: int
) -> None:
    """A broken machine or test must not be hammered; the jitter is half of it either way."""
    owner = await session(connection)
    task = await running(connection, owner, needs="pause", max_attempts=100)
    await connection.execute(
        "UPDATE tasks SET failures = $1, crashes = $2, max_attempts = 100 WHERE id = $3",
        min(failures, 98), crashes, task.id,
    )  # fmt: skip
    result = ended(task, owner, "failed", "timeout")
    await store.finish_many(connection, [result], _CRASH_LIMIT)
    now = await connection.fetchval("SELECT now()")
    again = await get(connection, task.id)
    assert again.run_after is not None
    pause_s = min(300, 2 ** (failures + crashes))
    assert 0.5 * pause_s <= (again.run_after - now).total_seconds() <= 1.5 * pause_s


async def test_a_returned_task_is_the_next_one_again(connection: asyncpg.Connection) -> None:
    """An agent that drains hands back what it did not start: the task must not queue anew."""
    owner = await session(connection)
    first = await running(connection, owner, needs="return")
    await submit(connection, needs=("return",))
    await store.finish_many(connection, [ended(first, owner, "returned", "returned")], 1)
    (again,) = await claim(connection, [await lanes_of(connection, "return")], [owner])
    assert (again.id, again.attempt) == (first.id, 2)


async def test_a_lost_task_joins_the_end_of_its_queue(connection: asyncpg.Connection) -> None:
    """One that kills its machine must not kill the next one before all others had their turn."""
    owner = await session(connection)
    lost = await running(connection, owner, needs="lost")
    waits = await submit(connection, needs=("lost",))
    await store.finish_many(connection, [ended(lost, owner, "lost", "agent_lost")], 3)
    tasks = await claim(connection, [await lanes_of(connection, "lost")], [owner, owner])
    assert [task.id for task in tasks] == [waits, lost.id]


async def test_all_that_the_result_says_is_kept(connection: asyncpg.Connection) -> None:
    """People and the log's state depend on it, also when the attempt is history."""
    owner = await session(connection)
    task = await running(connection, owner, needs="kept", max_attempts=2)
    says: dict[str, Any] = {
        "exit_code": 4_294_967_295, "signal": 9, "message": "äöü", "run_s": 1.5,
        "stdout_bytes": 2**40, "stdout_crc": 2**32 - 1, "stderr_bytes": 0, "stderr_crc": 0,
    }  # fmt: skip
    await store.finish_many(connection, [ended(task, owner, "failed", "signal", **says)], 3)
    (history,) = await task_store.earlier_attempts(connection, task.id)
    assert (history.exit_code, history.signal) == (4_294_967_295, 9)
    assert (history.message, history.run_s, history.agent) == ("äöü", 1.5, "tester")
    declared = await connection.fetchrow("SELECT * FROM attempts WHERE task = $1", task.id)
    assert declared is not None
    assert (declared["stdout_bytes"], declared["stdout_crc"]) == (2**40, 2**32 - 1)
    await connection.execute("UPDATE tasks SET status = 'pending' WHERE id = $1", task.id)
    (again,) = await claim(connection, [await lanes_of(connection, "kept")], [owner])
    await store.finish_many(connection, [ended(again, owner, "failed", "signal", **says)], 3)
    seen = await get(connection, task.id)
    assert (seen.status, seen.attempt, seen.signal, seen.message) == ("failed", 2, 9, "äöü")
    row = await connection.fetchrow("SELECT * FROM tasks WHERE id = $1", task.id)
    assert row is not None
    assert (row["stdout_bytes"], row["stderr_bytes"], row["stderr_crc"]) == (2**40, 0, 0)


@pytest.mark.parametrize("wrong", ["attempt", "session", "pulled", "over", "pending"])
async def test_only_the_attempt_that_counts_changes_its_task(
    connection: asyncpg.Connection, wrong: str
) -> None:
    """The fence: a stale agent must never overwrite what a newer attempt says."""
    owner = await session(connection)
    task = await running(connection, owner, needs="fence")
    result: dict[str, Any] = {"task": task.id, "attempt": 1, "session": owner}
    if wrong == "attempt":
        result["attempt"] = 2
    elif wrong == "session":
        result["session"] = await session(connection, "another")
    elif wrong == "pulled":
        result["session"] = 0
    else:
        outcome = "cancelled" if wrong == "over" else "returned"
        await store.finish_many(connection, [ended(task, owner, outcome, "cancelled")], 3)
    before = await connection.fetchrow("SELECT * FROM tasks WHERE id = $1", task.id)
    late = Ended(**result, outcome="succeeded", reason="exit", exit_code=0)
    assert await store.finish_many(connection, [late], _CRASH_LIMIT) == []
    assert await connection.fetchrow("SELECT * FROM tasks WHERE id = $1", task.id) == before


async def test_one_batch_ends_many_each_in_its_way(connection: asyncpg.Connection) -> None:
    """Results of a whole farm share a statement; none may take its neighbour's."""
    owner = await session(connection)
    outcomes = list(_REASON) * 3
    tasks = [await running(connection, owner, needs=f"many-{n}") for n in range(len(outcomes))]
    results = [
        ended(task, owner, outcome, _REASON[outcome], run_s=float(task.id))
        for task, outcome in zip(tasks, outcomes, strict=True)
    ]
    changes = await store.finish_many(connection, reversed(results), _CRASH_LIMIT)
    expected = {"failed": "failed", "succeeded": "succeeded", "cancelled": "cancelled"}
    expected |= {"lost": "pending", "returned": "pending", "unstarted": "scheduled"}
    assert {change.task: change.status for change in changes} == {
        task.id: expected[outcome] for task, outcome in zip(tasks, outcomes, strict=True)
    }
    for task, outcome in zip(tasks, outcomes, strict=True):
        if outcome == "succeeded":
            assert (await get(connection, task.id)).run_s == task.id
    assert await store.finish_many(connection, [], _CRASH_LIMIT) == []


@pytest.mark.parametrize("superseded", [False, True])
async def test_a_result_sent_again_is_told_from_a_stale_one(
    connection: asyncpg.Connection, *, superseded: bool
) -> None:
    """After a lost reply the agent must hear `duplicate`, another session's agent must not."""
    owner, other = await session(connection), await session(connection, "other")
    attempts = 2 if superseded else 1
    task = await running(connection, owner, needs="again", max_attempts=attempts)
    result = ended(task, owner, "failed", "timeout")
    await store.finish_many(connection, [result], _CRASH_LIMIT)
    asked = [
        result,
        ended(task, owner, "failed", "exit"),
        ended(task, other, "failed", "timeout"),
        Ended(task=task.id, attempt=9, session=owner, outcome="failed", reason="timeout"),
    ]
    for number, each in enumerate(asked):
        known = await store.ended_before(connection, [each])
        assert known == ({(task.id, 1)} if number == 0 else set()), each


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("lost", "agent dead was silent for 90 s"),
        ("replaced", "agent dead died, and was started again"),
        ("closed", "agent dead ended its session and left no result"),
    ],
)
async def test_what_the_dead_hold_is_found(
    connection: asyncpg.Connection, how: str, words: str
) -> None:
    """The reaper's walk: tasks of sessions that are over, with the agent and the cause."""
    dead, alive = await session(connection, "dead"), await session(connection, "alive")
    lost = await running(connection, dead, needs="dead")
    await running(connection, alive, needs="alive")
    assert await store.held_by_dead(connection) == []
    await connection.execute(
        "UPDATE sessions SET ended_at = now(), end_reason = $2, seen_at = now() - interval '90 s'"
        " WHERE id = $1", dead, how,
    )  # fmt: skip
    (found,) = await store.held_by_dead(connection)
    assert (found.task, found.attempt, found.session) == (lost.id, 1, dead)
    assert (found.outcome, found.reason) == ("lost", "agent_lost")
    assert found.message == words


@pytest.mark.parametrize(
    ("started", "heard", "silent"),
    list(zip([20, 20, 5, 20], [None, 20, None, 5], [True, True, False, False], strict=True)),
)
async def test_a_pulled_task_is_lost_when_nothing_is_heard_of_it(
    connection: asyncpg.Connection, started: int, heard: int | None, *, silent: bool
) -> None:
    """Its agent sends no beat: a log batch is the only sign of its life."""
    owner = await session(connection)
    pulled = await running(connection, None, needs="silent")
    await running(connection, owner, needs="beats")
    ago = timedelta(seconds=1)
    now = await connection.fetchval("SELECT now()")
    await connection.execute("UPDATE tasks SET started_at = $1", now - started * ago)
    if heard is not None:
        await connection.execute(
            "CREATE TABLE heard PARTITION OF log_chunks FOR VALUES FROM ('2001-01-01')"
            " TO ('2001-01-02')"
        )
        await connection.execute("UPDATE tasks SET day = '2001-01-01' WHERE id = $1", pulled.id)
        await connection.execute(
            "INSERT INTO log_chunks (day, task, attempt, stream, position, size, lines, crc, marks,"
            " content, received_at) VALUES ('2001-01-01', $1, 1, 1, 0, 1, 0, 0, '', '', $2)",
            pulled.id, now - heard * ago,
        )  # fmt: skip
    found = await store.silent_pulled(connection, 10)
    assert [each.task for each in found] == ([pulled.id] if silent else [])


async def test_only_a_pulled_attempt_is_known_by_its_task(connection: asyncpg.Connection) -> None:
    """The compatible routes name a task alone: they must not reach another's attempt."""
    owner = await session(connection)
    pulled = await running(connection, None, needs="pulled")
    (known,) = await store.pulled_attempts(connection, [pulled.id])
    assert known is not None
    assert (known.attempt, known.day, known.status) == (1, pulled.day, "in_progress")
    held = await running(connection, owner, needs="held")
    assert await store.pulled_attempts(connection, [held.id]) == [None]
    assert await store.pulled_attempts(connection, [await submit(connection)]) == [None]
    await store.finish_many(connection, [ended(held, owner, "returned", "returned")], 3)
    assert await store.pulled_attempts(connection, [held.id]) == [None]


def test_every_reason_has_its_outcome() -> None:
    """Success is exit code 0 and nothing else."""
    reasons = ["exit", "signal", "timeout", "cancelled", "agent_lost", "spawn_error", "returned"]
    outcomes = {
        (reason, code): store.outcome_of(Result(lease="", reason=reason, exit_code=code))  # type: ignore[arg-type]
        for reason, code in product(reasons, [None, 0, 1])
    }
    assert [key for key, outcome in outcomes.items() if outcome == "succeeded"] == [("exit", 0)]
    assert outcomes["exit", 1] == outcomes["signal", None] == outcomes["timeout", 0] == "failed"
    assert outcomes["spawn_error", None] == "unstarted"
    assert outcomes["agent_lost", None] == "lost"
    assert outcomes["returned", 0] == "returned"
    assert outcomes["cancelled", 0] == "cancelled"
