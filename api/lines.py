"""All lines of waiters, and which of them somebody should look for; no I/O."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator

from api.waiters import LaneSet, Line, Waiter


class Lines:
    """A line for each selection of lanes that somebody waits for."""

    def __init__(self) -> None:
        self._lines: dict[LaneSet, Line] = {}
        self._hungry: OrderedDict[LaneSet, None] = OrderedDict()
        self._work = asyncio.Event()

    def __len__(self) -> int:
        return sum(len(line) for line in self._lines.values())

    def __iter__(self) -> Iterator[Waiter]:
        for line in list(self._lines.values()):
            yield from list(line)

    def join(self, waiter: Waiter) -> None:
        """A newcomer: it looks, unless others just did and found nothing."""
        line = self._lines.get(waiter.lanes)
        if line is None:
            line = self._lines[waiter.lanes] = Line()
        if waiter.patient and line.quiet:
            line.park_last(waiter)
            return
        line.add(waiter)
        self._look(waiter.lanes, line)

    def leave(self, waiter: Waiter) -> None:
        """Nobody waits for this any more."""
        waiter.leave()
        if line := self._lines.get(waiter.lanes):
            line.remove(waiter)
            self._drop_empty(waiter.lanes, line)

    def wake(self, new: Collection[int] | None = None) -> None:
        """There may be tasks of these lanes, or of any."""
        for lanes, line in self._lines.items():
            if new is None or not set(lanes).isdisjoint(new):
                line.tries = 0
                self._wake(lanes, line)

    def wake_again(self, lanes: LaneSet) -> None:
        """What a look found may not have been all."""
        if line := self._lines.get(lanes):
            self._wake(lanes, line)

    async def hungry(self) -> tuple[LaneSet, Line]:
        """Wait for a line that somebody should look for, in turn; `looked` must follow."""
        while (found := self.hungry_now()) is None:
            self._work.clear()
            await self._work.wait()
        return found

    def hungry_now(self) -> tuple[LaneSet, Line] | None:
        """Such a line, if there is one."""
        if not self._hungry:
            return None
        lanes, _ = self._hungry.popitem(last=False)
        return lanes, self._lines[lanes]

    def quiet(self, lane: int) -> Iterator[tuple[LaneSet, Line]]:
        """Lines of those who wait, in vain until now, for tasks of that lane too."""
        for lanes, line in self._lines.items():
            if lane in lanes and line.quiet:
                yield lanes, line

    def looked(self, lanes: LaneSet, line: Line) -> None:
        """A look for it is over: there may be another one to do, or nobody left."""
        self._look(lanes, line)
        self._drop_empty(lanes, line)

    def regroup(self, select: Callable[[Waiter], LaneSet]) -> None:
        """Lanes were made: what the waiters' labels select may have grown."""
        waiters = list(self)
        for lanes, line in list(self._lines.items()):
            line.clear()
            self._drop_empty(lanes, line)
        for waiter in waiters:
            waiter.lanes = select(waiter)
            self.join(waiter)

    def _wake(self, lanes: LaneSet, line: Line) -> None:
        line.woken = True
        self._look(lanes, line)

    def _look(self, lanes: LaneSet, line: Line) -> None:
        if line.hungry:
            self._hungry[lanes] = None
            self._work.set()

    def _drop_empty(self, lanes: LaneSet, line: Line) -> None:
        if not line and not line.served:
            self._lines.pop(lanes, None)
            self._hungry.pop(lanes, None)
