"""The book of attempts that this agent was given: seen, queued, running, reported.

Pure but for what loops wait on.
"""

import asyncio
import contextlib
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from typing import Literal

from agent.parcels import Delivery
from schema.claims import ClaimedTask
from schema.sessions import Held

SEEN_LIMIT = 65_536
"""Attempts remembered. A delivery that comes again does so within a beat or two."""

_EARLY_LIMIT = 256

State = Literal["queued", "running", "reporting"]


class Attempt:
    """One run of one task, from its arrival until its result is acknowledged."""

    __slots__ = ("cancelled", "delivery", "key", "received_s", "session", "state", "task")

    def __init__(self, task: ClaimedTask, session: str, received_s: float) -> None:
        self.task = task
        self.key: Held = (task.id, task.attempt)
        self.session = session
        self.received_s = received_s
        self.state: State = "queued"
        self.cancelled = False
        self.delivery = Delivery(self.key, task.lease)


class Attempts:
    """What was received, in its order, each (id, attempt) once."""

    def __init__(self, seen_limit: int = SEEN_LIMIT) -> None:
        self.held: dict[Held, Attempt] = {}
        self.queued: dict[Held, Attempt] = {}  # dicts keep their order: this is the queue
        self.running: dict[Held, Attempt] = {}
        self.resting = 0
        """Slots that take nothing for a while."""
        self.changed = asyncio.Event()
        """A slot or a place in the queue became free, or a result was acknowledged."""
        self._idle: deque[asyncio.Future[None]] = deque()
        self._seen: OrderedDict[Held, None] = OrderedDict()
        self._cancelled_early: OrderedDict[Held, None] = OrderedDict()
        self._seen_limit = seen_limit

    def receive(self, tasks: Iterable[ClaimedTask], session: str, now_s: float) -> list[Attempt]:
        """Queue what is new; a delivery that came before changes nothing."""
        new = []
        for task in tasks:
            attempt = Attempt(task, session, now_s)
            if attempt.key in self._seen or attempt.key in self.held:
                continue
            self._seen[attempt.key] = None
            if len(self._seen) > self._seen_limit:
                self._seen.popitem(last=False)
            self.held[attempt.key] = self.queued[attempt.key] = attempt
            new.append(attempt)
        waking = len(new)
        while waking and self._idle:
            idle = self._idle.popleft()
            if not idle.done():  # else its slot was cancelled just now
                idle.set_result(None)
                waking -= 1
        return new

    async def arrival(self) -> None:
        """Wait until one has arrived; each wakes one slot, where an event would wake them all."""
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._idle.append(woken)
        try:
            await woken
        finally:
            with contextlib.suppress(ValueError):
                self._idle.remove(woken)

    def start_next(self) -> Attempt | None:
        """Take the first of the queue: it counts as running from here."""
        if not self.queued:
            return None
        attempt = self.queued.pop(next(iter(self.queued)))
        attempt.state = "running"
        self.running[attempt.key] = attempt
        self.changed.set()
        return attempt

    @contextlib.contextmanager
    def rest(self) -> Iterator[None]:
        """Note meanwhile that a slot takes nothing."""
        self.resting += 1
        try:
            yield
        finally:
            self.resting -= 1
            self.changed.set()

    def unqueue(self, attempt: Attempt) -> None:
        """Take one out of the queue that will not be run; its result is still to come."""
        del self.queued[attempt.key]
        attempt.state = "reporting"
        self.changed.set()

    def ran(self, attempt: Attempt) -> None:
        """Note that it runs no longer; its result is on its way."""
        self.running.pop(attempt.key, None)
        attempt.state = "reporting"
        self.changed.set()

    def forget(self, key: Held) -> None:
        """Drop what was reported.

        It stays seen, also when it was handed back: every claim is another attempt, so a delivery
        of this one can only be a late one, and the task may be somebody else's by then.
        """
        self.held.pop(key, None)
        self.changed.set()

    def new_session(self) -> None:
        """Forget what was seen: what the next session is given is new, even under old numbers."""
        self._seen.clear()
        self._cancelled_early.clear()

    def cancel_early(self, key: Held) -> None:
        """Note the cancellation of an attempt not seen yet: its delivery may be on its way."""
        if key in self._seen:
            return
        self._cancelled_early[key] = None
        if len(self._cancelled_early) > _EARLY_LIMIT:
            self._cancelled_early.popitem(last=False)

    def was_cancelled(self, attempt: Attempt) -> bool:
        """Tell whether an attempt that just arrived had been cancelled before."""
        return attempt.key in self._cancelled_early

    def held_for(self, session: str) -> tuple[Held, ...]:
        """All that this session was given and whose result is not acknowledged."""
        return tuple(key for key, attempt in self.held.items() if attempt.session == session)

    def cancelling(self) -> tuple[Held, ...]:
        """List the cancellations known here and not yet reported."""
        known = [key for key, attempt in self.held.items() if attempt.cancelled]
        return (*known, *(key for key in self._cancelled_early if key not in self.held))
