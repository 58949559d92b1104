"""Puts the agent together: slots and loops in one group, from first session to last beat."""

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import Iterable

from agent import linux
from agent.api_client import ApiClient, ApiError
from agent.attempts import Attempts
from agent.beats import Beats
from agent.claims import Claims, Pace
from agent.disk import DiskFloor, room
from agent.draining import Draining
from agent.folders import Folders
from agent.heir import Heir
from agent.isolation import Launcher
from agent.link import Link
from agent.outbox import Outbox
from agent.reports import MOST_BYTES, Reports
from agent.runner import TICK_S, Runner
from agent.session import CannotStartError, Session
from agent.session_note import SessionNote
from agent.settings import Settings
from agent.spool import Spool
from agent.spooler import Spooler
from agent.state import State
from agent.trees import Trees
from schema.claims import ClaimedTask
from schema.release import version
from schema.sessions import BeatReply, Held, SessionOpen

log = logging.getLogger("agent")

_REPORTS_IN_FLIGHT = 2
_REQUEST_SHARE = 8  # one part in so many of the memory for unsent output
_DISK_S = 1.0  # between two looks, some 2 us each
_QUEUED_MOST_S = 5.0  # claimed ahead and still not started: others may be idle


class Worker:
    """One agent. `run` returns when it has drained, which `draining` is asked for."""

    def __init__(
        self,
        settings: Settings,
        slots: int,
        state: State,
        launcher: Launcher,
        link: Link,
    ) -> None:
        self._settings = settings
        self._slots = slots
        self._pace = Pace()
        self._attempts = Attempts()
        api_url = settings.api_url.rstrip("/")
        spool = Spool(state.root / "spool", api_url)
        self._spooler = Spooler(spool, settings.spool_bytes)
        self._outbox = Outbox(settings.buffer_bytes, self._outbox_full, self._spooler)
        self._trees = Trees(state.id, settings.agent_name, link)
        self._runner = Runner(
            settings,
            self._attempts,
            self._outbox,
            self._trees,
            Folders(state.work, state.kept),
            launcher,
            self._pace.observe,
            exclusive_s=lambda: self._session.exclusive_s(settings.kill_grace_s),
            log_bytes=self._log_bytes,
        )
        self._api = ApiClient(settings.api_url, settings.token, settings.ca_file)
        opening = SessionOpen(
            agent=settings.agent_name,
            labels=(*settings.labels, *launcher.labels),
            slots=slots,
            version=version(),
            keeps_secrets=True,
        )
        self._note = SessionNote(state.root / "session", api_url, state.id)
        self._heir = Heir(spool, self._note, self._outbox, self._api)
        self._session = Session(
            self._api,
            opening,
            linux.boot_s,
            self._session_lost,
            self._note.write,
            link.exclusive_until,
        )
        self._beats = Beats(self._api, self._session, self._attempts, linux.boot_s, self._heard)
        self._claims = Claims(
            self._api,
            self._session,
            self._attempts,
            slots,
            self._ahead,
            self._receive,
            self._beats.compare_soon,
        )
        self._reports = Reports(
            self._api,
            self._session,
            self._outbox,
            self._settled,
            min(MOST_BYTES, settings.buffer_bytes // _REQUEST_SHARE),
        )
        self.draining = Draining(
            settings,
            self._session,
            self._attempts,
            self._outbox,
            self._runner,
            self._claims,
            self._beats,
        )
        self._refusal: CannotStartError | None = None
        self._said_full = False
        self._work = state.work
        self._disk = DiskFloor(settings.min_disk_free)
        self._disk_at_s = 0.0

    async def run(self) -> bool:
        """Work until drained; False if something could not be sent in the end.

        CannotStartError if the API will not have this agent.
        """
        try:
            async with self._api, asyncio.TaskGroup() as group:
                serving = group.create_task(self._serve())
                await self.draining.begun.wait()
                # Refused from the start, nothing of what a dead agent left can be sent.
                sent = self._refusal is None and await self.draining.finish()
                if sent:  # a write may be under way of what was sent meanwhile: it has to go, too
                    await self._outbox.keep_all()
                serving.cancel()
                if sent and self._session.id:
                    with contextlib.suppress(ApiError, TimeoutError):
                        await self._beats.close()
                        self._note.clear()
        finally:
            self._outbox.close()
            self._trees.end()
        if self._refusal is not None:
            raise self._refusal
        return sent

    async def _serve(self) -> None:
        try:
            await self._session.open(await self._heir.take_over())
        except CannotStartError as error:
            self._refusal = error
            self.draining.begun.set()
            return
        log.info(
            "agent %s with %d slot%s at %s",
            self._settings.agent_name,
            self._slots,
            "" if self._slots == 1 else "s",
            self._settings.api_url,
        )
        self._look_at_disk()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._beats.loop())
            group.create_task(self._claims.loop())
            for _ in range(_REPORTS_IN_FLIGHT):
                group.create_task(self._reports.loop())
            for number in range(self._slots):
                group.create_task(self._runner.slot(number))
            group.create_task(self._tick())
            group.create_task(self._heir.run())

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._runner.tick()
            self._outbox.tick()
            self._look_at_disk()
            oldest = next(iter(self._attempts.queued.values()), None)
            if oldest is not None and time.monotonic() - oldest.received_s > _QUEUED_MOST_S:
                self._runner.hand_back()

    def _look_at_disk(self) -> None:
        now_s = time.monotonic()
        if now_s < self._disk_at_s:
            return
        self._disk_at_s = now_s + _DISK_S
        said = self._disk.look(room(self._work))
        if said is None:
            return
        log.warning("%s", said)
        self._claims.hold(on=self._disk.low)
        if self._disk.low:
            self._runner.hand_back()

    # What the loops tell

    def _ahead(self) -> int:
        prefetch = self._settings.prefetch
        most = 4 * self._slots if prefetch is None else prefetch
        return min(most, self._pace.ahead(self._slots, self._runner.ages_s()))

    def _log_bytes(self) -> int:
        limits = (self._settings.max_log_bytes, self._session.max_log_bytes)
        return min((each for each in limits if each is not None), default=sys.maxsize)

    def _receive(self, tasks: Iterable[ClaimedTask], session: str) -> int:
        if not self._session.owns(session):
            return 0  # the session died meanwhile: they are given to others
        new = self._attempts.receive(tasks, session, time.monotonic())
        for attempt in new:
            if self._attempts.was_cancelled(attempt):
                self._runner.cancel(attempt.key)
        if self.draining.begun.is_set() or self._disk.low:
            self._runner.hand_back()
        return len(new)

    def _heard(self, reply: BeatReply, session: str) -> bool:
        news = False
        flush_s = self._settings.flush_s if reply.flush_ms is None else reply.flush_ms / 1000
        if flush_s != self._runner.flush_s:
            self._runner.flush_s = flush_s
            news = True
        known = set(self._attempts.cancelling())
        for key in reply.cancel:
            if key not in known:
                self._runner.cancel(key)
                news = True
        if self._receive(reply.redeliver, session):
            news = True
        if reply.drain and not self.draining.begun.is_set():
            log.info("the API asks this agent to drain")
            self.draining.ask()
            news = True
        return news

    def _settled(self, key: Held) -> None:
        self._attempts.forget(key)
        self._heir.settled(key)

    def _outbox_full(self, full: bool) -> None:
        # With room in the spool it takes a moment only: nobody wants to read of that.
        if full and self._spooler.full and not self._said_full:
            self._said_full = True
            log.warning(
                "unsent output fills BUFFER_BYTES and SPOOL_BYTES: tasks block on their pipes "
                "until the API accepts more"
            )
        self._runner.read_output(wanted=not full)

    def _session_lost(self) -> None:
        for attempt in tuple(self._attempts.queued.values()):
            self._attempts.unqueue(attempt)
            self._attempts.forget(attempt.key)
        self._attempts.new_session()
        message = f"agent {self._settings.agent_name} was cut off until the API ended its session"
        self._runner.stop_all("agent_lost", message)
