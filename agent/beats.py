"""The loop that keeps the session alive, and hears what the API wishes."""

import asyncio
from collections.abc import Callable

from agent.api_client import ApiClient, Backoff, calm_s
from agent.attempts import Attempts
from agent.session import Session
from schema.sessions import Beat, BeatReply

COMPARE_S = 10
"""How often `held` is compared where nothing failed."""

_WAIT_SHARE = 1 / 3  # of the lease: two beats may fail before it is over
_WAIT_MOST_S = 60
_CLOSING_S = 2


class Beats:
    """One long-poll at a time."""

    def __init__(
        self,
        api: ApiClient,
        session: Session,
        attempts: Attempts,
        boot_clock: Callable[[], float],
        heard: Callable[[BeatReply, str], bool],
    ) -> None:
        """`heard` does what a reply to a session wishes; False if it knew all that before."""
        self._api = api
        self._session = session
        self._attempts = attempts
        self._boot_clock = boot_clock
        self._heard = heard
        self.drain_compared = asyncio.Event()
        """Set when the API has told what it gave us and we do not know of, after `drain`."""
        self._draining = False
        self._flush_ms: int | None = None
        self._compared = ("", 0.0)  # session, time
        self._compare = True
        self._parked: asyncio.Timeout | None = None

    def compare_soon(self) -> None:
        """Ask now what the API holds for us: a reply of another route may be lost."""
        self._compare = True
        self._interrupt()

    def drain(self) -> None:
        """Say from now on that the agent drains, and compare: a claim may have been cut off."""
        self._draining = True
        self._compare = True
        self._interrupt()

    def _interrupt(self) -> None:
        parked, self._parked = self._parked, None
        if parked is not None:
            parked.reschedule(0)

    async def loop(self) -> None:
        """Beat until cancelled."""
        backoff = Backoff()
        while True:
            try:
                if await self._session.ask(self._beat, backoff) is None:
                    self._compare = True
            except TimeoutError:  # interrupted
                continue

    async def _beat(self, session: str) -> bool:
        sent_s = self._boot_clock()
        compared_session, compared_s = self._compared
        compare = self._compare or compared_session != session or sent_s - compared_s > COMPARE_S
        last = self._draining and not self.drain_compared.is_set()
        beat = Beat(
            session=session,
            held=self._attempts.held_for(session) if compare else None,
            cancelling=self._attempts.cancelling(),
            draining=self._draining,
            flush_ms=self._flush_ms,
            wait=0 if last else min(self._session.lease_s * _WAIT_SHARE, _WAIT_MOST_S),
        )
        self._compare = False
        try:
            async with asyncio.timeout(None) as self._parked:
                # A worker of the API may hang: the next try must reach another within the lease.
                reply = await self._api.beat(beat, self._session.lease_s * _WAIT_SHARE)
        except BaseException:
            self._compare = self._compare or compare
            raise
        finally:
            self._parked = None
        if compare:
            self._compared = (session, sent_s)
        # A reply brings no more than some MB: what is left of it comes with the next ones.
        self._compare = self._compare or bool(reply.redeliver)
        self._session.proven(sent_s, reply.lease_s)
        self._flush_ms = reply.flush_ms
        news = self._heard(reply, session)
        if last and compare and not reply.redeliver:
            self.drain_compared.set()
        if not news:
            await asyncio.sleep(calm_s(self._boot_clock() - sent_s))
        return True

    async def close(self) -> None:
        """Tell the API that the session ends."""
        beat = Beat(session=self._session.id, held=(), draining=True, closing=True)
        async with asyncio.timeout(_CLOSING_S):
            await self._api.beat(beat)
