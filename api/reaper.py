"""Periodic work: dead sessions, due tasks, log partitions. Any process does it; one at a time.

Each job takes an advisory lock for one transaction: there is no leader to lose.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

from api.database import Database
from api.metrics import LOST
from api.notices import Notices
from api.settings import Settings
from api.store import Connection
from api.store import audit as audit_store
from api.store import logs as log_store
from api.store import results as result_store
from api.store import secrets as secret_store
from api.store import sessions as session_store
from api.store import tasks as task_store
from api.store.results import Change, Ended

_REAP_LOCK = 0x6477_0001
_DUE_LOCK = 0x6477_0002
_DAYS_LOCK = 0x6477_0003
_DAYS_AHEAD = 3
_UPKEEP_S = 600.0
_LATE_S = 1.0
_DUE_S = (0.02, 1.0)
_LOOK_SHARE = 20  # one part in so many of the time, of all workers, may go to looks at what is held
_LOOK_LATEST_S = 30.0  # what an agent left that closed its session waits for such a look
_log = logging.getLogger(__name__)


def _boot_s() -> float:
    """Seconds, counting the machine's sleep, as now() of the database does."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Reaper:
    """Ends what died, queues what is due, makes and drops log partitions."""

    def __init__(
        self,
        database: Database,
        notices: Notices,
        settings: Settings,
        days_changed: Callable[[], Awaitable[None]],
        clock: Callable[[], float] = _boot_s,
    ) -> None:
        self._database = database
        self._notices = notices
        self._settings = settings
        self._days_changed = days_changed
        self._clock = clock
        self._last_tick: float | None = None
        self._patient_until = 0.0
        self._look_at = 0.0

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(_repeat(self._reap, after_error_s=1))
            group.create_task(_repeat(self._promote, after_error_s=1))
            group.create_task(_repeat(self._upkeep, after_error_s=30))

    async def prepare(self) -> None:
        """Make the partitions that the next claims need."""
        async with self._database.acquire() as connection, connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _DAYS_LOCK)
            await log_store.add_days(connection, _DAYS_AHEAD)
        await self._days_changed()

    async def _reap(self) -> float:
        """Mark the dead, unless they had no chance to be heard; end what the dead still hold.

        After a start, an outage or a long pause every session looks silent: then it waits a whole
        lease before it marks any.
        """
        settings = self._settings
        now = self._clock()
        late_s = max(_LATE_S, settings.lease_s / 3)  # a parked beat uses up another third
        if self._last_tick is None or now - self._last_tick > settings.reaper_s + late_s:
            self._patient_until = now + settings.lease_s
        self._last_tick = None  # stays so if this tick fails
        changes = await self._end_lost(may_mark=now >= self._patient_until)
        self._last_tick = now
        LOST.inc(len(changes))
        for each in changes:
            _log.info("task %d: attempt %d was lost: %s", each.task, each.attempt, each.status)
        self._notices.tasks_queued(each.place for each in changes if each.status == "pending")
        self._notices.tasks_moved(each.task for each in changes)
        return settings.reaper_s

    async def _end_lost(self, *, may_mark: bool) -> list[Change]:
        settings = self._settings
        async with self._database.acquire() as connection, connection.transaction():
            if not await _locked(connection, _REAP_LOCK):
                return []  # another process is at it
            marked = await session_store.end_lost(connection, settings.lease_s) if may_mark else []
            for number, agent in marked:
                _log.warning("session %d of agent %s is lost", number, agent)
            if not marked and self._clock() < self._look_at:
                return []
            return await result_store.finish_many(
                connection, await self._held_by_nobody(connection), settings.crash_limit
            )

    async def _held_by_nobody(self, connection: Connection) -> list[Ended]:
        """Look at all that is held, which takes half a second where that is half a million."""
        began = time.monotonic()
        lost = await result_store.held_by_dead(connection)
        lost += await result_store.silent_pulled(connection, self._settings.pulled_silence_s)
        pause_s = (time.monotonic() - began) * _LOOK_SHARE * self._settings.workers
        # Where some were found, there may be more.
        self._look_at = 0.0 if lost else self._clock() + min(pause_s, _LOOK_LATEST_S)
        return lost

    async def _promote(self) -> float:
        """Queue scheduled tasks when they are due; returns the pause until the next one."""
        shortest_s, longest_s = _DUE_S
        async with self._database.acquire() as connection, connection.transaction():
            if not await _locked(connection, _DUE_LOCK):
                return longest_s
            queued = await task_store.promote_due(connection)
            next_s = await task_store.next_due(connection)
        self._notices.tasks_queued(queued)
        return longest_s if next_s is None else min(longest_s, max(shortest_s, next_s))

    async def _upkeep(self) -> float:
        """Make partitions ahead, drop expired ones, and what is too old of the rest."""
        await self.prepare()
        connection = await self._database.connect()
        try:
            if await connection.fetchval("SELECT pg_try_advisory_lock($1)", _DAYS_LOCK):
                today = await log_store.today(connection)
                oldest = today - timedelta(days=self._settings.log_days)
                for day in await log_store.drop_days(connection, oldest):
                    _log.info("dropped the logs of %s", day)
        finally:
            connection.terminate()
        await self._days_changed()
        async with self._database.acquire() as one:
            while await audit_store.drop_entries(one, self._settings.audit_days):
                pass
            while await secret_store.drop_expired(one, self._settings.log_days):
                pass
        return _UPKEEP_S


async def _repeat(tick: Callable[[], Awaitable[float]], after_error_s: float) -> None:
    """Call `tick` for ever; it gives the pause until the next call."""
    while True:
        try:
            pause_s = await tick()
        except Exception as error:  # noqa: BLE001 - the database is away: try again
            _log.warning("%s: %r", tick.__name__.strip("_"), error)
            pause_s = after_error_s
        await asyncio.sleep(pause_s)


async def _locked(connection: Connection, lock: int) -> bool:
    return bool(await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", lock))
