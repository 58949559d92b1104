"""The loop that takes tasks: one for each free slot, and some ahead while tasks are short."""

import asyncio
import math
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from agent.api_client import ApiClient, Backoff, calm_s
from agent.attempts import Attempts
from agent.session import Session
from schema.claims import MAX_CLAIMED, ClaimedTask, ClaimRequest

SHORT_TASK_S = 1.0
"""Tasks that last longer are never claimed ahead: a claim's few milliseconds are nothing to them,
and whoever has a free slot should have them."""

AHEAD_S = 0.1
"""What is claimed ahead lasts so long: several round trips of a claim, disk included."""

_WAIT_S = 20
_WEIGHT = 1 / 8  # of the newest task in the estimate
_OBSERVED_MOST_S = 4 * SHORT_TASK_S  # so that ten short tasks after a long one are enough


class Pace:
    """How long tasks take on this agent: a moving average that follows the last ten or so."""

    def __init__(self) -> None:
        self._estimate_s: float | None = None

    def observe(self, run_s: float) -> None:
        """Note that a task ended after so long."""
        run_s = min(run_s, _OBSERVED_MOST_S)
        if self._estimate_s is None:
            self._estimate_s = run_s
        self._estimate_s += (run_s - self._estimate_s) * _WEIGHT

    def ahead(self, slots: int, ages_s: Iterable[float]) -> int:
        """How many tasks to claim ahead: what the slots get through in AHEAD_S.

        0 where tasks are long, by those that ended and by the ages of those that run.
        """
        ages = sorted(ages_s)
        running_s = ages[len(ages) // 2] if ages else 0.0  # one long task does not hold up many
        if self._estimate_s is None or max(self._estimate_s, running_s) >= SHORT_TASK_S:
            return 0
        return math.ceil(slots * AHEAD_S / max(self._estimate_s, 0.001))


class Wanted(NamedTuple):
    """How many tasks to ask for: those that could start at once, and those ahead of that."""

    slots: int
    ahead: int


def wanted(slots: int, running: int, queued: int, ahead: int) -> Wanted:
    """Tell what to ask for now.

    With tasks ahead it waits until half of them are used up, so that a claim brings many.
    """
    free = max(slots - running - queued, 0)
    if not free and queued > ahead // 2:
        return Wanted(0, 0)
    room = max(slots + ahead - running - queued, 0) - free
    return Wanted(min(free, MAX_CLAIMED), min(room, MAX_CLAIMED))


class Claims:
    """One request under way at a time, parked by the API while there is nothing."""

    def __init__(
        self,
        api: ApiClient,
        session: Session,
        attempts: Attempts,
        slots: int,
        ahead: Callable[[], int],
        receive: Callable[[Iterable[ClaimedTask], str], object],
        failed: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`receive` takes tasks with their session; `failed` hears that a reply may be lost."""
        self._api = api
        self._session = session
        self._attempts = attempts
        self._slots = slots
        self._ahead = ahead
        self._receive = receive
        self._failed = failed
        self._clock = clock
        self._ended = False
        self._held = False
        self._parked: asyncio.Timeout | None = None

    def end(self) -> None:
        """Claim no more; a parked request is given up."""
        self._ended = True
        self._attempts.changed.set()
        self._give_up()

    def hold(self, *, on: bool) -> None:
        """Claim nothing for a while, or again; a parked request is given up."""
        self._held = on
        self._attempts.changed.set()
        if on:
            self._give_up()

    def _give_up(self) -> None:
        parked, self._parked = self._parked, None
        if parked is not None:
            parked.reschedule(0)

    async def loop(self) -> None:
        """Claim until `end`."""
        backoff = Backoff()
        while not self._ended:
            if not any(self._wanted()):
                self._attempts.changed.clear()
                await self._attempts.changed.wait()
                continue
            try:
                if await self._session.ask(self._claim, backoff) is None:
                    self._failed()
            except TimeoutError:  # given up: what the reply may have held comes with a beat
                self._failed()

    def _wanted(self) -> Wanted:
        book = self._attempts
        if self._held:
            return Wanted(0, 0)
        # Who cannot start tasks takes none ahead from others.
        ahead = 0 if book.resting else self._ahead()
        return wanted(self._slots - book.resting, len(book.running), len(book.queued), ahead)

    async def _claim(self, session: str) -> bool:
        asked = self._wanted()
        # What was free may be taken by now, as by a beat; the API refuses a claim of nothing.
        slots = asked.slots if any(asked) else 1
        request = ClaimRequest(session, slots, _WAIT_S, asked.ahead)
        sent_s = self._clock()
        try:
            async with asyncio.timeout(None) as self._parked:
                reply = await self._api.claim(request)
        finally:
            self._parked = None
        self._receive(reply.tasks, session)
        if not reply.tasks:
            await asyncio.sleep(calm_s(self._clock() - sent_s))
        return True
