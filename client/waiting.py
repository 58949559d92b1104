"""Waiting for many tasks, cheaply, and for agents that drain.

A group is asked for its counts: one small reply, however many tasks. Tasks without one, or that
share a group with others, are asked for by id: all of them once, to see that they exist, then
only the unfinished, and only whether they are final.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from msgspec import Struct

from client.errors import NotFoundError, StillRunningError
from schema.problems import Problem
from schema.tasks import FINAL, INFRASTRUCTURE, Status, Task

if TYPE_CHECKING:
    from client.client import Client

FIRST_LOOK_S = 0.05
MOST_LOOK_S = 1.0
IDS_PER_REQUEST = 400
"""Up to a dozen characters each: proxies commonly refuse addresses over 8 KB."""

_FINAL: tuple[Status, ...] = ("succeeded", "failed", "cancelled")


class Progress(Struct, frozen=True):
    """How far the tasks are."""

    total: int
    succeeded: int
    failed: int
    infrastructure: int
    """How many of the failed ones their machines failed."""
    cancelled: int
    running: int | None
    """Null where nobody counted them."""

    @property
    def ended(self) -> int:
        """Tasks that are final."""
        return self.succeeded + self.failed + self.cancelled


class Waited(Struct, frozen=True):
    """All tasks have ended."""

    total: int
    succeeded: int
    others: tuple[Task, ...]
    """Failed and cancelled ones, by id."""
    took_s: float
    """From the first submission to the last end, by the server's clock."""


Seen = Callable[[Progress], None]


class _Looks:
    """Time between looks: 50 ms, growing to 1 s, and an end."""

    def __init__(self, at_most_s: float | None, noun: str = "task") -> None:
        self._noun = noun
        self._end = None if at_most_s is None else time.monotonic() + at_most_s
        self._wait_s = FIRST_LOOK_S

    async def pause(self, unfinished: int) -> None:
        """Sleep until the next look; StillRunningError at the end."""
        left_s = self._wait_s if self._end is None else self._end - time.monotonic()
        if left_s <= 0:
            raise StillRunningError(unfinished, self._noun)
        await asyncio.sleep(min(self._wait_s, left_s))
        self._wait_s = min(MOST_LOOK_S, self._wait_s * 1.3)


async def wait(
    dw: "Client",
    ids: Collection[int],
    group: str | None,
    seen: Seen | None,
    at_most_s: float | None,
) -> Waited:
    """See `Client.wait`."""
    looks = _Looks(at_most_s)
    wanted = set(ids)
    if group is not None and (not wanted or (await dw.group(group)).total == len(wanted)):
        return await _wait_group(dw, group, seen, looks)
    return await _wait_ids(dw, wanted, seen, looks)


async def _wait_group(dw: "Client", name: str, seen: Seen | None, looks: _Looks) -> Waited:
    while True:
        group = await dw.group(name)
        counts = group.counts
        now = Progress(
            total=group.total,
            succeeded=counts.get("succeeded", 0),
            failed=counts.get("failed", 0),
            infrastructure=group.infrastructure,
            cancelled=counts.get("cancelled", 0),
            running=counts.get("in_progress", 0),
        )
        if seen is not None:
            seen(now)
        if group.finished_at is not None:
            break
        await looks.pause(now.total - now.ended)
    others: list[Task] = []
    if now.succeeded < now.total:
        others = [task async for task in pages(dw, status=("failed", "cancelled"), group=name)]
    others.sort(key=lambda task: task.id)
    took_s = (group.finished_at - group.submitted_at).total_seconds()
    return Waited(now.total, now.succeeded, tuple(others), took_s)


async def _wait_ids(dw: "Client", wanted: set[int], seen: Seen | None, looks: _Looks) -> Waited:
    unknown, unfinished = set(wanted), set(wanted)
    others: list[Task] = []
    counts: Counter[Status] = Counter()
    submitted: list[datetime] = []
    finished: list[datetime] = []
    only: tuple[Status, ...] = ()  # the first look must see them all
    while True:
        async for task in pages(dw, status=only, ids=sorted(unfinished)):
            unknown.discard(task.id)
            if task.status in FINAL and task.id in unfinished:
                unfinished.discard(task.id)
                counts[task.status] += 1
                submitted.append(task.submitted_at)
                finished.append(task.finished_at or task.submitted_at)
                if task.status != "succeeded":
                    others.append(task)
        if unknown:
            raise unknown_ids(unknown)
        only = _FINAL
        if seen is not None:
            seen(
                Progress(
                    total=len(wanted),
                    succeeded=counts["succeeded"],
                    failed=counts["failed"],
                    infrastructure=sum(task.reason in INFRASTRUCTURE for task in others),
                    cancelled=counts["cancelled"],
                    running=None,
                )
            )
        if not unfinished:
            break
        await looks.pause(len(unfinished))
    others.sort(key=lambda task: task.id)
    took_s = (max(finished) - min(submitted)).total_seconds() if finished else 0.0
    return Waited(len(wanted), counts["succeeded"], tuple(others), took_s)


async def wait_drained(
    dw: "Client", name: str, seen: Callable[[int, int], None] | None, at_most_s: float | None
) -> None:
    """See `Client.drained`. One that was started again meanwhile drains not, and is not awaited."""
    looks = _Looks(at_most_s, "agent")
    while True:
        agents = [agent for agent in await dw.agents(name=name) if agent.drain]
        if seen is not None:
            seen(len(agents), sum(agent.running for agent in agents))
        if not agents:
            return
        await looks.pause(len(agents))


async def pages(
    dw: "Client",
    *,
    ids: Collection[int] | None = None,
    status: Iterable[Status] = (),
    group: str | None = None,
) -> AsyncIterator[Task]:
    """Every task that fits, in whatever number of requests; none for no `ids`."""
    status = tuple(status)
    for some in [None] if ids is None else _batches(ids):
        cursor: str | None = None
        while True:
            page = await dw.tasks(ids=some or (), status=status, group=group, cursor=cursor)
            for task in page.tasks:
                yield task
            cursor = page.next
            if cursor is None:
                break


def unknown_ids(unknown: Collection[int]) -> NotFoundError:
    """Make the error for tasks that the server does not know."""
    shown = ", ".join(str(one) for one in sorted(unknown)[:5])
    more = f" and {len(unknown) - 5:,} more" if len(unknown) > 5 else ""  # noqa: PLR2004 - shown
    are = "is no task" if len(unknown) == 1 else "are no tasks"
    return NotFoundError(
        Problem(status=404, title="Not Found", detail=f"there {are} {shown}{more}")
    )


def _batches(ids: Collection[int]) -> Iterator[list[int]]:
    some = list(ids)
    for start in range(0, len(some), IDS_PER_REQUEST):
        yield some[start : start + IDS_PER_REQUEST]
