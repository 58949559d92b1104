"""What becomes of a group that is too large to be followed, found by looking now and then.

The same events as `Client.live_group` brings, but for what tasks write.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from client.live import LiveEvent
from schema.logs import GroupNow, TaskEnded, TaskNow
from schema.tasks import FINAL, Status, Task

if TYPE_CHECKING:
    from client.client import Client

LOOK_S = 2.0
_MOST = 200  # tasks of each kind that one look reads


async def looked_at(dw: "Client", name: str) -> AsyncGenerator[LiveEvent, None]:
    """Events until all tasks have ended. Where there are very many, only some of them are told."""
    running: dict[int, int] = {}
    failed: dict[int, int] = {}
    while True:
        group = await dw.group(name)
        yield GroupNow(name=name, total=group.total, counts=group.counts)
        now = await _some(dw, name, "in_progress")
        for task in now:
            if running.get(task.id) != task.attempt:
                yield _now(task)
        gone = running.keys() - {task.id for task in now}
        running = {task.id: task.attempt for task in now}
        bad = await _some(dw, name, "failed", "cancelled")
        for task in bad:
            if failed.get(task.id) != task.attempt:
                yield _ended(task)
        failed = {task.id: task.attempt for task in bad}
        for task in (await dw.tasks(ids=sorted(gone))).tasks if gone else ():
            if task.id not in failed:
                yield _ended(task) if task.status in FINAL else _now(task)
        if sum(group.counts.get(status, 0) for status in FINAL) == group.total:
            return
        await asyncio.sleep(LOOK_S)


async def _some(dw: "Client", name: str, *status: Status) -> list[Task]:
    """The newest of them, in the order of their numbers."""
    return list(reversed((await dw.tasks(group=name, status=status, limit=_MOST)).tasks))


def _now(task: Task) -> TaskNow:
    return TaskNow(
        task=task.id, status=task.status, attempt=task.attempt, agent=task.agent,
        cancel_requested=task.cancel_requested, reason=task.reason, run_after=task.run_after,
        started_at=task.started_at,
    )  # fmt: skip


def _ended(task: Task) -> TaskEnded:
    return TaskEnded(
        task=task.id, status=task.status, attempt=task.attempt, agent=task.agent,
        reason=task.reason, exit_code=task.exit_code, signal=task.signal, message=task.message,
        started_at=task.started_at, finished_at=task.finished_at, run_s=task.run_s,
    )  # fmt: skip
