"""The agent's session with the API: opened, proven by beats, replaced when it is dead.

Also tells people, once each, that the API is away and that it is back.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from agent.api_client import (
    ApiClient,
    ApiError,
    AwayError,
    Backoff,
    RefusedError,
    SessionGoneError,
    UntrustedError,
)
from schema.sessions import SessionOpen

T = TypeVar("T")

log = logging.getLogger("agent")

_AWAY_AFTER_S = 1.0  # a worker that is replaced cuts connections: nobody wants to read of that
_MARGIN_S = 0.5  # for the worker's ticks, and for a killed process to be gone
_GRACE_SHARE = 1 / 5  # of the lease
_FORBIDDEN = frozenset({401, 403})


class CannotStartError(Exception):
    """The API will not have this agent: the text says what to change."""


class Session:
    """The current session's id, and how long it is proven to live."""

    def __init__(
        self,
        api: ApiClient,
        opening: SessionOpen,
        boot_clock: Callable[[], float],
        lost: Callable[[], None],
        opened: Callable[[str], None],
        exclusive_until: Callable[[float], None],
    ) -> None:
        """Call `lost` when a session has ended against our will, before the next one opens.

        `opened` is told the id of each new one. `exclusive_until` is told when, by the boot clock,
        exclusive tasks must be dead at the latest, whoever ends them.
        """
        self.id = ""
        self.lease_s = 0.0
        self.max_log_bytes: int | None = None
        """What the log of an attempt may hold, if the API names a limit."""
        self._api = api
        self._opening = opening
        self._boot_clock = boot_clock
        self._lost = lost
        self._opened = opened
        self._exclusive_until = exclusive_until
        self._lock = asyncio.Lock()
        self._dead = ""
        self._proven_until_s = 0.0
        self._failing_since_s: float | None = None
        self._said_away = False

    @property
    def away(self) -> bool:
        """Tell whether the API has been silent for long enough to say so."""
        return self._said_away

    def owns(self, session: str) -> bool:
        """Tell whether that is the current session, and not known to be dead.

        What a late reply brings for a dead one is given to others; nobody would end it here.
        """
        return session == self.id != self._dead

    def left_s(self) -> float:
        """Seconds for which nobody else is given our tasks; negative when that is over."""
        return self._proven_until_s - self._boot_clock()

    def proven(self, sent_s: float, lease_s: float) -> None:
        """Note that nobody else is given our tasks for so long after `sent_s` of the boot clock."""
        self._proven_until_s = max(self._proven_until_s, sent_s + lease_s)
        self._exclusive_until(self._proven_until_s - self._margin_s() / 2)

    def _margin_s(self) -> float:
        return min(_MARGIN_S, self.lease_s / 20)

    def exclusive_s(self, kill_grace_s: float) -> float | None:
        """Give None while exclusive tasks may run, else how many seconds they have to end.

        A short lease shortens the grace: two thirds are over when the beat after a parked one is
        answered, and the answer may come late.
        """
        grace_s = min(kill_grace_s, self.lease_s * _GRACE_SHARE)
        left_s = self.left_s() - self._margin_s()
        return None if left_s > grace_s else max(left_s, 0.0)

    async def open(self, replaces: str | None) -> None:
        """Open the first session, as long as it takes; CannotStartError if the API refuses.

        `replaces` names one that is known to be dead: what it held need not wait for its lease.
        """
        self._opening = msgspec.structs.replace(self._opening, replaces=replaces)
        backoff = Backoff()
        while not await self._try_open(backoff, first=True):
            pass

    async def _try_open(self, backoff: Backoff, *, first: bool) -> bool:
        sent_s = self._boot_clock()
        try:
            opened = await self._api.open_session(self._opening)
        except AwayError as error:
            if first and error.status in _FORBIDDEN:
                raise CannotStartError(
                    f"the API refuses this agent: {error}. Set TOKEN."
                ) from error
            if first and isinstance(error, UntrustedError):
                raise CannotStartError(f"{error}. Set CA_FILE.") from error
            await self.pause(error, backoff)
            return False
        except (RefusedError, SessionGoneError) as error:
            if first:
                raise CannotStartError(f"the API refuses this agent: {error}") from error
            await self.pause(error, backoff)
            return False
        self._heard()
        self.id = opened.session
        self._opened(opened.session)
        self._opening = msgspec.structs.replace(self._opening, replaces=None)
        self.lease_s = opened.lease_s
        self.max_log_bytes = opened.max_log_bytes
        self._proven_until_s = 0.0
        self.proven(sent_s, opened.lease_s)
        return True

    async def ask(self, send: Callable[[str], Awaitable[T]], backoff: Backoff) -> T | None:
        """Send with the current session; None after a failure, when it is time to try again."""
        session = self.id
        try:
            reply = await send(session)
        except SessionGoneError:
            await self.replace(session)
            return None
        except (AwayError, RefusedError) as error:
            await self.pause(error, backoff)
            return None
        self._heard()
        backoff.reset()
        return reply

    async def replace(self, dead: str) -> None:
        """Open the session after `dead`, unless another loop already did."""
        async with self._lock:
            if self.id != dead:
                return
            log.warning("the API ended our session: its tasks are stopped, a new one opens")
            self._dead = dead
            self._lost()
            backoff = Backoff()
            while not await self._try_open(backoff, first=False):
                pass

    async def pause(self, error: ApiError, backoff: Backoff) -> None:
        """Wait as long as the failure asks for."""
        now_s = self._boot_clock()
        if self._failing_since_s is None:
            self._failing_since_s = now_s
        if not self._said_away and (not self.id or now_s - self._failing_since_s >= _AWAY_AFTER_S):
            self._said_away = True
            log.warning("the API cannot be reached (%s); retrying until it is back", error)
        retry_after_s = error.retry_after_s if isinstance(error, AwayError) else None
        await asyncio.sleep(backoff.next_s(retry_after_s))

    def _heard(self) -> None:
        if self._said_away and self._failing_since_s is not None:
            log.info("the API is back after %.0f s", self._boot_clock() - self._failing_since_s)
        self._failing_since_s = None
        self._said_away = False
