"""All live logs of one process: which tasks are watched here, and the loop that looks at them."""

import asyncio
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from api.database import AWAY, Database
from api.live import steps
from api.live.chunks import Chunks
from api.live.sharing import Shared
from api.live.steps import Step, Streams
from api.live.tails import Tail
from api.notices import Notices
from api.positions import Position
from api.store import live as store
from api.watched import ANNOUNCE_S, Watch

_LOOK_S = 1.0
"""A notice may be lost: so often everything is looked at."""

_COLLECT_S = 0.01
"""Before a look: what comes in two reports within it is seen, and sorted, together."""

_MOST_TASKS = 500  # in one look
_AFTER_ERROR_S = 1.0
_FIRST_LOOK_S = 10.0
_KEPT_STEPS_BYTES = 8 * 1024 * 1024
_STEPS_AT_ONCE = 16  # each may hold a MiB or two while it is made
_TAILS_AT_ONCE = 4  # each 8 MiB
_log = logging.getLogger(__name__)


class Live:
    """The live logs of one process."""

    def __init__(self, database: Database, notices: Notices) -> None:
        self.database = database
        self._notices = notices
        self._chunks = Chunks(database)
        self._tails: dict[int, Tail] = {}
        self._due: dict[int, None] = {}
        self._work = asyncio.Event()
        self._announced: set[Watch] = set()
        self._announced_at = -ANNOUNCE_S
        self._steps: Shared[Step] = Shared(_weight, _KEPT_STEPS_BYTES, _STEPS_AT_ONCE)
        self._positions: Shared[Position] = Shared(lambda _: 0, 0, _TAILS_AT_ONCE)

    async def run(self) -> None:
        """Look until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._chunks.run())
            group.create_task(self._look_for_ever())
            group.create_task(self._tick_for_ever())

    def moved(self, tasks: Iterable[int]) -> None:
        """Tasks have more output, or another state."""
        for task in tasks:
            if task in self._tails:
                self._look_at(task)

    def look_again(self) -> None:
        """Anything may have changed."""
        self.moved(self._tails)

    def announce_again(self) -> None:
        """Somebody has not heard what is watched here."""
        self._announced_at = -ANNOUNCE_S
        self._work.set()

    def hold(self, task: int) -> Tail:
        """Watch a task; `release` must follow."""
        tail = self._tails.get(task)
        if tail is None:
            tail = self._tails[task] = Tail(task, self.database)
        if not tail.holders:
            tail.looked_at = 0.0  # nobody told of what changed meanwhile
            self._look_at(task)
        tail.holders += 1
        return tail

    async def known(self, tail: Tail, *, freshly: bool = False) -> bool:
        """Wait until a task was looked at; whether it exists. TimeoutError without a database.

        `freshly`: in a look that has not begun yet.
        """
        since = asyncio.get_running_loop().time() if freshly else 0.0
        if freshly:
            self._look_at(tail.task)
        async with asyncio.timeout(_FIRST_LOOK_S):
            while not tail.looked_at or tail.looked_at < since:
                await tail.looked.wait(tail.looked.rung)
        return tail.seen is not None

    def release(self, tail: Tail) -> None:
        """Watch it no more. For a moment it is kept for somebody who comes back at once."""
        tail.holders -= 1
        tail.left_at = asyncio.get_running_loop().time()

    @contextmanager
    def watching(self, task: int) -> Iterator[Tail]:
        """Watch a task."""
        tail = self.hold(task)
        try:
            yield tail
        finally:
            self.release(tail)

    def _look_at(self, task: int) -> None:
        self._due[task] = None
        self._work.set()

    async def next_step(self, tail: Tail, position: Position, streams: Streams) -> Step | None:
        """What comes behind a position; shared by all who are there."""
        return await self._steps.once(
            (tail.task, position, streams),
            lambda: steps.next_step(self._chunks, tail, position, streams),
        )

    async def position(self, tail: Tail, attempt: int, lines: int, streams: Streams) -> Position:
        """Where the last lines of an attempt begin."""

        async def find() -> Position | None:
            log = await tail.log(attempt)
            if log is None:
                return None
            return await steps.tail_position(self._chunks, log, lines, streams)

        found = await self._positions.once((tail.task, attempt, lines, streams), find)
        return found or Position(attempt)

    async def _look_for_ever(self) -> None:
        while True:
            await self._work.wait()
            await asyncio.sleep(_COLLECT_S)
            self._work.clear()
            due = list(self._due)[:_MOST_TASKS]
            tails = [self._tails[task] for task in due if task in self._tails]
            for task in due:
                del self._due[task]
            try:
                if tails:
                    await self._look(tails)
            except AWAY as error:
                _log.warning("cannot read the watched tasks: %r", error)
                self._due.update(dict.fromkeys(due))
                await asyncio.sleep(_AFTER_ERROR_S)
            if self._due:
                self._work.set()
            self._announce(tails)

    async def _look(self, tails: list[Tail]) -> None:
        began = asyncio.get_running_loop().time()
        async with self.database.reading() as connection:
            rows = await store.look_many(connection, [tail.ask for tail in tails])
        seen = {row.task: row for row in rows}
        new = (place for tail in tails for place in tail.new_chunks(seen.get(tail.task)))
        await self._chunks.read_ahead(new)
        for tail in tails:
            if tail.update(seen.get(tail.task), began):
                self._due[tail.task] = None

    async def _tick_for_ever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_LOOK_S)
            now = loop.time()
            for task, tail in list(self._tails.items()):
                if not tail.holders and tail.left_at < now - _LOOK_S:
                    del self._tails[task]
                    self._due.pop(task, None)
                elif tail.looked_at < now - _LOOK_S / 2:
                    self._due[task] = None
            self._work.set()
            self._notices.on_sessions(self._notices.watched.forget())

    def _announce(self, looked_at: Iterable[Tail]) -> None:
        """Say what is watched here: all now and then, what is new at once."""
        now = asyncio.get_running_loop().time()
        if now - self._announced_at >= ANNOUNCE_S:
            self._announced_at = now
            self._announced.clear()
            looked_at = self._tails.values()
        watches = {watch for tail in looked_at if tail.holders and (watch := tail.watch)}
        self._notices.watching(watches - self._announced)
        self._announced |= watches


def _weight(step: Step) -> int:
    """All but output is made anew: who runs a task again changes what follows its end."""
    return len(step.json) + 300 if step.name == "output" else 0
