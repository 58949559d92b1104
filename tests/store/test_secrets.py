"""Secrets in the database: sealed, bound to their task, gone when they are not needed."""

from datetime import timedelta

import asyncpg
import pytest

from api.sealing import SealError, Seals
from api.store import lanes as lane_store
from api.store import results as result_store
from api.store import secrets as store
from api.store import tasks as task_store
from api.store.claims import Claimed
from api.store.tasks import FOR_SECRETS, KeyConflictError, needs_of
from schema.tasks import Submission, Submitted
from tests.store.support import claim, ended, get, lanes_of, session

_SEALS = Seals([bytes(32)])
_VALUE = "hunter2-hunter2"


async def _submit(
    connection: asyncpg.Connection, *tasks: Submission, seals: Seals = _SEALS
) -> list[Submitted]:
    await lane_store.add_lanes(connection, {needs_of(task) for task in tasks})
    lanes = await lane_store.all_lanes(connection)
    unclaimed = [None] * len(tasks)
    stored, _ = await task_store.submit_many(connection, tasks, lanes, unclaimed, "tester", seals)
    return [each.answer for each in stored]


def _task(**fields: object) -> Submission:
    return Submission(command="true", secrets={"A": _VALUE, "B": "b"}, **fields)  # type: ignore[arg-type]


async def _running(connection: asyncpg.Connection, needs: str) -> tuple[Claimed, int]:
    """A task with secrets in the hands of a session."""
    await _submit(connection, _task(needs=(needs,)))
    owner = await session(connection, needs)
    lane = await lanes_of(connection, needs, FOR_SECRETS)
    (task,) = await claim(connection, [lane], [owner])
    return task, owner


async def test_each_new_task_has_its_own_and_nothing_of_them_is_readable(
    connection: asyncpg.Connection,
) -> None:
    """Among others that have none: each row opens for its task alone."""
    plain = Submission(command="true")
    answers = await _submit(connection, plain, _task(), plain, _task(name="other"))
    sealed = await store.get_many(connection, [each.id for each in answers])
    assert sorted(sealed) == [answers[1].id, answers[3].id]
    for number, row in sealed.items():
        assert _SEALS.open(number, row) == {"A": _VALUE, "B": "b"}
        assert _VALUE.encode() not in row
    with pytest.raises(SealError):
        _SEALS.open(answers[1].id, sealed[answers[3].id])
    rows = await connection.fetch(
        "SELECT t::text FROM tasks AS t WHERE id = ANY ($1)", list(sealed)
    )
    assert not any(_VALUE in row[0] for row in rows)
    seen = await get(connection, answers[1].id)
    assert (seen.secrets, seen.needs) == (("A", "B"), ())
    assert (await get(connection, answers[0].id)).secrets == ()


async def test_a_key_stands_for_its_secrets_too(connection: asyncpg.Connection) -> None:
    """The same again is the same task; with another value it is refused, and nothing is told."""
    (first,) = await _submit(connection, _task(key="k"))
    (again,) = await _submit(connection, _task(key="k"))
    assert (again.id, again.created) == (first.id, False)
    turned = Seals([bytes(range(32)), bytes(32)])
    assert (await _submit(connection, _task(key="k"), seals=turned))[0].id == first.id
    other = Submission(command="true", secrets={"A": _VALUE, "B": "c"}, key="k")
    for task in (other, Submission(command="true", key="k")):
        with pytest.raises(KeyConflictError):
            async with connection.transaction():
                await _submit(connection, task)
    assert len(await store.get_many(connection, [first.id])) == 1
    digest = await connection.fetchval("SELECT key_digest FROM tasks WHERE id = $1", first.id)
    unkeyed = Seals([bytes(31) + b"1"])
    assert digest not in task_store._digests(_task(key="k"), unkeyed)


@pytest.mark.parametrize(
    ("outcome", "reason", "kept"),
    [
        ("succeeded", "exit", False),
        ("failed", "exit", True),
        ("cancelled", "cancelled", True),
        ("lost", "agent_lost", True),
        ("returned", "returned", True),
    ],
)
async def test_success_is_the_end_of_secrets(
    connection: asyncpg.Connection, outcome: str, reason: str, kept: bool
) -> None:
    """Nobody runs it again for its result; what failed is run again, and needs them."""
    task, owner = await _running(connection, f"secret-{outcome}")
    assert task.secret
    await result_store.finish_many(connection, [ended(task, owner, outcome, reason)], 1)
    assert bool(await store.get_many(connection, [task.id])) is kept
    retried = await task_store.retry(connection, task.id, None, "tester")
    final = (await get(connection, task.id)).status == "succeeded"
    assert (retried is None) is (final or outcome == "returned")


async def test_they_expire_with_the_logs(connection: asyncpg.Connection) -> None:
    """A task that failed and that nobody looks after must not keep its secrets for ever."""
    over, owner = await _running(connection, "secret-over")
    await result_store.finish_many(connection, [ended(over, owner, "failed", "exit")], 1)
    waiting, _ = await _running(connection, "secret-waiting")
    assert await store.drop_expired(connection, 30) == 0
    await connection.execute(
        "UPDATE tasks SET finished_at = now() - $1::interval WHERE id = $2",
        timedelta(days=31), over.id,
    )  # fmt: skip
    assert await store.drop_expired(connection, 30) == 1
    assert list(await store.get_many(connection, [over.id, waiting.id])) == [waiting.id]
    assert await task_store.retry(connection, over.id, None, "tester") is None
