"""How an agent ends: it finishes what it runs, or stops it when asked twice or out of time."""

import asyncio
import contextlib
import logging

from agent.attempts import Attempts
from agent.beats import Beats
from agent.claims import Claims
from agent.outbox import Outbox
from agent.runner import Runner
from agent.session import Session
from agent.settings import Settings

log = logging.getLogger("agent")

_STOP_GRACE_S = 2.0  # instead of KILL_GRACE_S when told twice to stop
_LAST_UPLOAD_S = 5.0
_COMPARE_MOST_S = 2.0
_AWAY_LOOK_S = 0.5


class Draining:
    """From the first wish that the agent ends until nothing of it is left to send."""

    def __init__(
        self,
        settings: Settings,
        session: Session,
        attempts: Attempts,
        outbox: Outbox,
        runner: Runner,
        claims: Claims,
        beats: Beats,
    ) -> None:
        self._settings = settings
        self._session = session
        self._attempts = attempts
        self._outbox = outbox
        self._runner = runner
        self._claims = claims
        self._beats = beats
        self.begun = asyncio.Event()
        self._hurry = False
        self._patience: asyncio.Timeout | None = None

    def ask(self) -> None:
        """Take nothing more, hand back what has not started, finish what runs; then end.

        Asked again, end what runs.
        """
        if self.begun.is_set():
            self._hurry = True
            patience, self._patience = self._patience, None
            if patience is not None:
                patience.reschedule(0)
            return
        self.begun.set()
        self._claims.end()
        self._beats.drain()
        self._runner.hand_back()

    async def finish(self) -> bool:
        """Wait until all has ended and is sent, and stop what runs where DRAIN_S is over.

        False if something could not be sent: it is on the disk, where the spool has room.
        """
        if running := len(self._attempts.running):
            them = "it" if running == 1 else "them"
            log.info("finishing %s; press Ctrl-C again to stop %s", _count(running, "task"), them)
        patience_s = 0 if self._hurry else self._settings.drain_s or None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s) as patience:
                self._patience = patience
                await self._all_sent()
                self._patience = None
                return True
        how = "at once" if self._hurry else f"within {self._settings.drain_s:g} s (DRAIN_S)"
        message = f"agent {self._settings.agent_name} was told to stop {how}"
        self._runner.stop_all("agent_lost", message, _STOP_GRACE_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_GRACE_S + _LAST_UPLOAD_S):
                await self._all_sent()
                return True
        kept = await self._outbox.keep_all()
        log.error(
            "the API did not accept everything in time: %s unreported; %s",
            _count(len(self._attempts.held), "task"),
            "the next agent with this STATE_DIR sends the rest" if kept else "the rest is lost",
        )
        return False

    async def _all_sent(self) -> None:
        if self._session.id and not self._session.away:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_COMPARE_MOST_S):
                    await self._beats.drain_compared.wait()
        while self._attempts.running or self._attempts.queued:
            self._attempts.changed.clear()
            await self._attempts.changed.wait()
        told = False
        while not self._outbox.empty:
            if self._session.away and not told:
                told = True
                log.info(
                    "waiting for the API to accept the last logs; press Ctrl-C again to leave them "
                    "to the next agent"
                )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_AWAY_LOOK_S):
                    await self._outbox.wait_empty()


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
