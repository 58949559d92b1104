"""What waits and no agent can take: found by looking now and then, beside a wait.

What is only behind others in the queue, or waits for its time, is not stuck.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from msgspec import Struct

from client import render
from client.errors import DwError, first_of
from client.waiting import IDS_PER_REQUEST
from schema.explain import Draining, NoAgent
from schema.tasks import Task

if TYPE_CHECKING:
    from client.client import Client

FIRST_LOOK_S = 1.0
_MOST_LOOK_S = 10.0
_STUCK_LOOK_S = 2.0  # somebody waits for it to come to an end
_MOST = 200  # tasks that one look reads
_NEEDS = 4  # kinds of them that it asks about


class Stuck(Struct, frozen=True):
    """Pending tasks with the same needs, which no live agent takes."""

    task: int
    """The oldest that was seen."""
    others: bool
    """There are more."""
    why: NoAgent | Draining

    @property
    def text(self) -> str:
        """As `task 12 waits: no live agent has the label gpu`."""
        who = f"task {self.task} and others wait" if self.others else f"task {self.task} waits"
        why = render.one_line(self.why.text).removesuffix(".")
        return f"{who}: {why[:1].lower()}{why[1:]}"

    @property
    def reason(self) -> tuple[object, ...]:
        """What makes it another one."""
        return type(self.why), *(self.why.missing if isinstance(self.why, NoAgent) else ())


Tell = Callable[[tuple[Stuck, ...]], None]


class OnceEach:
    """Writes a line for each reason when it comes up."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._told: set[tuple[object, ...]] = set()

    def __call__(self, now: tuple[Stuck, ...]) -> None:
        """Hear what is stuck now."""
        for each in now:
            if each.reason not in self._told:
                self._told.add(each.reason)
                self._write(each.text)
        self._told &= {each.reason for each in now}


@asynccontextmanager
async def told(
    dw: "Client", tell: Tell, *, ids: Collection[int] = (), group: str | None = None
) -> AsyncIterator[None]:
    """Around a wait for tasks: `tell` hears after each look what is stuck; the wait tells errors.

    With both, those of the ids that are in the group.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            looking = tasks.create_task(_look_again(dw, tell, ids, group))
            try:
                yield
            finally:
                looking.cancel()
    except BaseExceptionGroup as error:
        raise first_of(error) from None


async def _look_again(dw: "Client", tell: Tell, ids: Collection[int], group: str | None) -> None:
    pause_s = FIRST_LOOK_S
    while True:
        await asyncio.sleep(pause_s)
        with suppress(DwError):
            found = await look(dw, ids, group)
            tell(found)
            pause_s = _STUCK_LOOK_S if found else min(_MOST_LOOK_S, 2 * pause_s)


async def look(dw: "Client", ids: Collection[int], group: str | None) -> tuple[Stuck, ...]:
    """What is stuck of the newest that wait; a few kinds of them at most."""
    asked = sorted(ids)[-IDS_PER_REQUEST:] if group is None else ()
    page = await dw.tasks(ids=asked, group=group, status=("pending",), limit=_MOST)
    alike: dict[tuple[object, ...], list[int]] = {}
    for task in page.tasks:
        if not ids or task.id in ids:
            alike.setdefault(_needs(task), []).append(task.id)
    found = []
    for some in list(alike.values())[:_NEEDS]:
        reasons = (await dw.explain(some[-1])).reasons
        found += [
            Stuck(some[-1], len(some) > 1, why)
            for why in reasons
            if isinstance(why, NoAgent | Draining)
        ]
    return tuple(found)


def _needs(task: Task) -> tuple[object, ...]:
    """All that decides which agents may have it."""
    return *task.needs, task.isolation, task.image, bool(task.secrets)
