"""Tasks that are watched at this process: what they are now, and how far their logs are stored."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime

from msgspec import Struct

from api.contents import contents_of
from api.database import Database
from api.live.bell import Bell
from api.live.chunks import ChunkPlace
from api.live.layout import Layout
from api.positions import Position
from api.store import live as store
from api.store import logs as log_store
from api.store import one_moment
from api.store import tasks as task_store
from api.store.live import Ask, Seen
from api.store.logs import AttemptPlace
from api.watched import Watch
from schema.logs import WORST, AttemptBegun, LogOver, TaskNow
from schema.tasks import FINAL, Stream

BOTH: tuple[Stream, ...] = ("stdout", "stderr")

_LATE_BATCH_S = 1.0  # a legacy agent may send its status before its last batch
_KEPT_LOGS = 3


class AttemptLog(Struct):
    """The log of one attempt, as far as it is stored."""

    place: AttemptPlace
    begun: AttemptBegun
    layouts: dict[Stream, Layout]
    whole: LogOver | None
    """What it says of itself; None while it may grow."""
    expired: bool

    def brought(self, position: Position) -> bool:
        """Whether so many bytes were there once: nobody gets behind what is stored."""
        within = all(position.offset(each) <= layout.end for each, layout in self.layouts.items())
        return within or self.expired


class Tail:
    """One watched task."""

    def __init__(self, task: int, database: Database) -> None:
        self.task = task
        self.holders = 0
        self.left_at = 0.0
        """Loop time when the last one let go of it."""
        self.looked_at = 0.0
        """Loop time."""
        self.seen: Seen | None = None
        self.now: TaskNow | None = None
        self.looked = Bell()
        self.bell = Bell()
        self.on_change: set[Callable[[int], None]] = set()
        self._database = database
        self._logs: OrderedDict[int, AttemptLog] = OrderedDict()
        self._loading = asyncio.Lock()

    @property
    def ask(self) -> Ask:
        """What is to be looked at."""
        log = self._logs.get(self.seen.attempt) if self.seen else None
        if log is None or log.whole is not None:
            return Ask(self.task, store.NO_DAY, 0, -1, -1)
        last = {stream: layout.last_position for stream, layout in log.layouts.items()}
        place = log.place
        return Ask(self.task, place.day, place.attempt, last["stdout"], last["stderr"])

    @property
    def watch(self) -> Watch | None:
        """What is announced of it: nothing once it is over."""
        seen = self.seen
        if seen is None or seen.status in FINAL:
            return None
        return Watch(self.task, seen.session or 0)

    def new_chunks(self, seen: Seen | None) -> Iterator[ChunkPlace]:
        """What a look found of the log that is followed."""
        log = self._logs.get(seen.attempt) if seen else None
        if seen is None or log is None or log.whole is not None:
            return
        place = log.place
        for number, extents in ((1, seen.stdout), (2, seen.stderr)):
            for position, size, _ in extents:
                yield ChunkPlace(place.day, self.task, place.attempt, number, position, size)

    def update(self, seen: Seen | None, began: float) -> bool:
        """Take what a look saw, if the task exists; whether there is more to be seen at once.

        `began`: loop time of the look.
        """
        self.looked_at = began
        self.looked.ring()
        if seen is None:
            return False
        before, self.seen = self.now, seen
        self.now = TaskNow(
            task=seen.task, status=seen.status, attempt=seen.attempt, agent=seen.agent,
            cancel_requested=seen.cancel_requested, reason=seen.reason, run_after=seen.run_after,
            started_at=seen.started_at,
        )  # fmt: skip
        log = self._logs.get(seen.attempt)
        grown = False
        if log is not None and log.whole is None:
            grown = log.layouts["stdout"].extend(seen.stdout)
            grown |= log.layouts["stderr"].extend(seen.stderr)
        if grown or self.now != before or self._to_be_judged(log):
            self.change()
        return grown and store.LOOKED_AT in {len(seen.stdout), len(seen.stderr)}

    def change(self) -> None:
        """Wake all who watch it."""
        self.bell.ring()
        for each in tuple(self.on_change):
            each(self.task)

    def _runs(self, attempt: int) -> bool:
        """Whether an attempt may still write."""
        seen = self.seen
        return seen is None or (
            attempt >= seen.attempt and seen.status not in {"pending", "scheduled", *FINAL}
        )

    def _may_be_late(self, place: AttemptPlace) -> bool:
        """Whether a last batch may come behind the end."""
        seen = self.seen
        if not place.pulled or seen is None or place.attempt < seen.attempt:
            return False
        over_s = 0.0 if self._runs(place.attempt) else seen.over_s
        return over_s is not None and over_s < _LATE_BATCH_S

    def _to_be_judged(self, log: AttemptLog | None) -> bool:
        if log is None or log.whole is not None:
            return False
        return not self._runs(log.place.attempt) and not self._may_be_late(log.place)

    def ahead(self, position: Position, streams: Iterable[Stream]) -> bool:
        """Whether there may be something to tell behind a position."""
        seen = self.seen
        if seen is None:
            return False
        if position.told or not position.attempt:
            return position.attempt < seen.attempt or seen.status in FINAL
        log = self._logs.get(position.attempt)
        if log is None or log.whole is not None or self._to_be_judged(log):
            return True
        return any(log.layouts[each].end > position.offset(each) for each in streams)

    async def log(self, attempt: int) -> AttemptLog | None:
        """The log of an attempt; read anew when it has ended. None: there was no such attempt."""
        log = self._logs.get(attempt)
        if log is not None and not self._to_be_judged(log):
            return log
        async with self._loading:  # who waits for the same shares it
            log = self._logs.get(attempt)
            if log is None or self._to_be_judged(log):
                log = await self._load(attempt)
                if log is not None:
                    self._keep(log)
            return log

    async def gave(self, position: Position) -> bool:
        """Whether a position is one of this task: those of others may be behind all it wrote."""
        if not position.attempt:
            return True
        log = await self.log(position.attempt)
        if log is not None and not log.brought(position):
            log = await self.log_anew(position.attempt)  # another process may have seen more
        return log is not None and log.brought(position)

    async def log_anew(self, attempt: int) -> AttemptLog | None:
        """The log of an attempt as it is stored now."""
        self._logs.pop(attempt, None)
        return await self.log(attempt)

    async def _load(self, attempt: int) -> AttemptLog | None:
        # A report brings both streams; one without the other would be sorted wrongly.
        async with self._database.reading() as connection, one_moment(connection):
            place = await log_store.attempt_place(connection, self.task, attempt)
            if place is None:
                return None
            contents = await contents_of(connection, self.task, place, BOTH)
            earlier = await task_store.earlier_attempts(connection, self.task)
        agents = {each.attempt: each.agent for each in earlier}
        if self.seen is not None:
            agents.setdefault(self.seen.attempt, self.seen.agent)
        whole = None
        if place.ended and not self._may_be_late(place):
            streams = {each.stream: each.summary() for each in contents}
            state = min((each.state for each in contents), key=WORST.index)
            whole = LogOver(task=self.task, attempt=attempt, state=state, **streams)
        begun = AttemptBegun(
            task=self.task,
            attempt=attempt,
            agent=agents.get(attempt),
            started_at=datetime.fromtimestamp(place.started_us / 1_000_000, UTC),
        )
        return AttemptLog(
            place, begun, {each.stream: Layout(each) for each in contents}, whole,
            expired=any(each.state == "expired" for each in contents),
        )  # fmt: skip

    def _keep(self, log: AttemptLog) -> None:
        self._logs[log.place.attempt] = log
        self._logs.move_to_end(log.place.attempt)
        newest = self.seen.attempt if self.seen else 0
        for attempt in list(self._logs)[:-_KEPT_LOGS]:
            if attempt != newest:
                del self._logs[attempt]
