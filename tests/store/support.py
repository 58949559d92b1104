"""Short ways to tasks, sessions and claims, for tests of the store."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from asyncpg import Record

from api.store import Connection
from api.store import claims as claim_store
from api.store import lanes as lane_store
from api.store import sessions as session_store
from api.store import tasks as task_store
from api.store.claims import Claimed
from api.store.results import Ended
from api.store.tasks import Queued, needs_of
from schema.sessions import SessionOpen
from schema.tasks import Submission, Submitted, Task


async def lanes_of(connection: Connection, *needs: str) -> int:
    """Number of the lane, made if it is missing."""
    wanted = tuple(sorted(needs))
    await lane_store.add_lanes(connection, [wanted])
    return (await lane_store.all_lanes(connection))[wanted]


async def submit_all(connection: Connection, tasks: Sequence[Submission]) -> list[Submitted]:
    """Store submissions, and their lanes."""
    await lane_store.add_lanes(connection, {needs_of(task) for task in tasks})
    lanes = await lane_store.all_lanes(connection)
    unclaimed = [None] * len(tasks)
    stored, _ = await task_store.submit_many(connection, tasks, lanes, unclaimed, "tester")
    return [each.answer for each in stored]


async def submit(connection: Connection, *, command: str = "true", **fields: Any) -> int:
    """Store one task; its number."""
    return (await submit_all(connection, [Submission(command=command, **fields)]))[0].id


async def session(connection: Connection, name: str = "tester") -> int:
    """Open a session; its row."""
    secret = f"secret of {name}"
    return await session_store.open_session(connection, secret, SessionOpen(agent=name), None)


async def claim(
    connection: Connection, lanes: Iterable[int], sessions: Sequence[int | None]
) -> list[Claimed]:
    """Claim without floors, one task for each session at most, in their order."""
    floors = [Queued(lane, priority, 0) for lane in lanes for priority in range(10)]
    given = await claim_store.claim_many(connection, floors, sessions)
    return [task for _, _, task in sorted(given, key=lambda each: each[0])]


async def running(
    connection: Connection, owner: int | None, *, needs: str, **fields: Any
) -> Claimed:
    """One task in the hands of a session. `needs`: a label that no other test uses."""
    sent = Submission(**{"command": "true", "needs": (needs,)} | fields)
    (answer,) = await submit_all(connection, [sent])
    (task,) = await claim(connection, [await lanes_of(connection, *needs_of(sent))], [owner])
    assert task.id == answer.id
    return task


def ended(task: Claimed, owner: int | None, outcome: str, reason: str, **fields: Any) -> Ended:
    """How an attempt ended."""
    return Ended(
        task=task.id,
        attempt=task.attempt,
        session=owner or 0,
        outcome=outcome,  # type: ignore[arg-type]  # tests name all of them
        reason=reason,  # type: ignore[arg-type]
        **fields,
    )


async def get(connection: Connection, number: int) -> Task:
    """A task as people see it."""
    (task,) = await task_store.get_many(connection, [number])
    return task


async def waits_for_lock(observer: Connection, pid: int, within_s: float = 10) -> None:
    """Return when that backend waits for a lock.

    pg_locks and not pg_stat_activity, which stands still within a transaction.
    """
    held: list[Record] = []
    for _ in range(int(within_s / 0.01)):
        held = await observer.fetch("SELECT locktype, granted FROM pg_locks WHERE pid = $1", pid)
        if any(not lock["granted"] for lock in held):
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"backend {pid} does not wait for a lock; it has {held}")
