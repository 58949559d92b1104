"""Two API processes' worth of application over one database, and the hand that moves their time.

Their reapers look and their renewals happen when they are told to, and a session grows old by an
UPDATE: nothing here waits for a clock.
"""

import asyncio
import gc
import itertools
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import AsyncExitStack
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar

import asyncpg

from api.app import create_app
from api.reaper import Reaper
from api.routes.services import Services
from api.settings import Settings
from api.store import Connection
from api.store import claims as claim_store
from api.store import lanes as lane_store
from api.store.claims import Claimed
from api.store.tasks import Queued
from tests.api.lease.facts import CRASH_LIMIT, LEASE_S, REAPER_S, Rows, Session
from tests.api.lease.in_process import InProcess

T = TypeVar("T")

LANES = ((), ("a",), ("b",), ("a", "b"))
DEADLINE_S = 30
"""For any one step: all of them take milliseconds."""

_COLLECT = 20  # examples; else the process grows by a megabyte with each
_OLD = f"now() - interval '{2 * LEASE_S} s'"
_EMPTY = """
    TRUNCATE tasks, attempts, sessions, log_chunks RESTART IDENTITY;
    ALTER SEQUENCE queue_seq RESTART;
"""
_STEADY = """
    ALTER TABLE tasks SET (autovacuum_enabled = false);
    ALTER TABLE attempts SET (autovacuum_enabled = false);
"""
"""What is queued again together is numbered in the order of the plan: no new statistics."""
_LISTENING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND state = 'idle' AND query LIKE 'SELECT pg_notify%'
"""
"""Who listens asks at once what the others watch."""
_BLOCKED = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'distributed-worker'
        AND wait_event_type = 'Lock' AND wait_event IN ('transactionid', 'tuple')
"""
_TASKS = """
    SELECT id, queue_seq, status, attempt, session, failures, crashes, cancel_requested, reason,
        started_at IS NOT NULL, finished_at IS NOT NULL
    FROM tasks
"""
_SESSIONS = f"""
    SELECT id, end_reason, seen_at < now() - interval '{LEASE_S} s', drain FROM sessions
"""
_CHUNKS = """
    SELECT task, attempt, CASE stream WHEN 1 THEN 'stdout' ELSE 'stderr' END, position, size, crc
    FROM log_chunks
"""


class Step(NamedTuple):
    """A request that is not sent yet, and what must be true of its answer."""

    call: Coroutine[Any, Any, Any]
    check: Callable[[Any], Any]


class Stage:
    """What all examples share, because it is slow to make: applications that do not run yet."""

    def __init__(self, url: str, instances: int) -> None:
        self.settings = Settings(
            database_url=url, lease_s=LEASE_S, reaper_s=REAPER_S, pulled_silence_s=LEASE_S,
            crash_limit=CRASH_LIMIT,
        )  # fmt: skip
        self.applications = [create_app(self.settings) for _ in range(instances)]
        self.worlds = itertools.count(1)
        self._url = url

    async def open(self) -> None:
        """Connect, and make the lanes, so that nobody need hear of them."""
        self.database = await asyncpg.connect(self._url)
        self.neighbour = await asyncpg.connect(self._url)
        await self.database.execute(_STEADY)
        await lane_store.add_lanes(self.database, LANES)

    async def close(self) -> None:
        """Disconnect."""
        await self.neighbour.close()
        await self.database.close()


class World:
    """Empty tables, and instances that were just started over them."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._database = stage.database
        self._stop = asyncio.Event()
        self._running: asyncio.Future[None] | None = None
        self._marks = itertools.count(1)
        self._news = asyncio.Event()
        self.instances = range(len(stage.applications))
        self.apis = [InProcess(each) for each in stage.applications]
        self.services: list[Services] = []
        self._reapers: list[Reaper] = []
        self._now_s = [0.0 for _ in self.instances]
        self._heard: list[set[int]] = [set() for _ in self.instances]

    async def start(self) -> None:
        """Return when all instances hear each other."""
        await self._database.execute(_EMPTY)
        started = asyncio.Event()
        self._running = asyncio.ensure_future(self._run(started))
        waiting = asyncio.ensure_future(started.wait())
        await asyncio.wait([self._running, waiting], return_when=asyncio.FIRST_COMPLETED)
        self.services = [each.app.state["services"] for each in self._stage.applications]
        for at in self.instances:
            self._listen(at)
        await self._until(_LISTENING, len(self.instances))

    async def _run(self, started: asyncio.Event) -> None:
        async with AsyncExitStack() as stack:
            for each in self._stage.applications:
                await stack.enter_async_context(each.app.lifespan())
            started.set()
            await self._stop.wait()

    async def stop(self) -> None:
        """End the instances."""
        self._stop.set()
        if self._running is not None:
            await self._running
        # An application that starts keeps what is there from the collector, and sets it back.
        gc.unfreeze()
        if next(self._stage.worlds) % _COLLECT == 0:
            gc.collect()

    def _listen(self, at: int) -> None:
        services = self.services[at]
        wake = services.notices.on_sessions

        def hear(numbers: Iterable[int]) -> None:
            self._heard[at].update(each for each in numbers if each < 0)
            self._news.set()
            wake(each for each in numbers if each > 0)

        services.notices.on_sessions = hear
        self._reapers.append(
            Reaper(
                services.database, services.notices, self._stage.settings,
                services.writer.refresh_days, clock=lambda: self._now_s[at],
            )
        )  # fmt: skip

    async def settle(self) -> None:
        """Return when each instance has heard what the others told before.

        Sessions below 0 are marks: notices arrive in the order in which they were sent.
        """
        marks = {-next(self._marks) for _ in self.instances}
        for mark, services in zip(marks, self.services, strict=True):
            services.notices.sessions_changed([mark])
        while not all(marks <= heard for heard in self._heard):
            self._news.clear()
            await self._news.wait()

    async def _until(
        self, query: str, count: int, unless: "asyncio.Future[Any] | None" = None
    ) -> None:
        while not (unless and unless.done()):
            if await self._database.fetchval(query) >= count:
                return

    async def rows(self) -> tuple[Rows, dict[int, int]]:
        """What the model says, and each task's place in the queue."""
        tasks = await self._database.fetch(_TASKS)
        sessions = await self._database.fetch(_SESSIONS)
        attempts = await self._database.fetch("SELECT task, attempt, session, reason FROM attempts")
        chunks = await self._database.fetch(_CHUNKS)
        rows: Rows = {
            "tasks": {row[0]: tuple(row)[2:] for row in tasks},
            "attempts": {(row[0], row[1]): tuple(row)[2:] for row in attempts},
            "sessions": {row[0]: tuple(row)[1:] for row in sessions},
            "chunks": {tuple(row)[:4]: tuple(row)[4:] for row in chunks},
        }
        return rows, {row[0]: row[1] for row in tasks}

    # Time

    async def expire(self, session: Session) -> None:
        """Two leases pass for a session, in which nobody tells the database of it."""
        await self._database.execute(
            f"UPDATE sessions SET seen_at = {_OLD} WHERE id = $1", session.number
        )
        for services in self.services:
            if known := services.sessions._by_id.get(session.secret):
                known.renewed_at -= 2 * LEASE_S

    async def quiet(self, task: int, attempt: int) -> None:
        """Nothing is heard of a pulled task for two leases."""
        await self._database.execute(f"UPDATE tasks SET started_at = {_OLD} WHERE id = $1", task)
        await self._database.execute(
            f"UPDATE log_chunks SET received_at = {_OLD} WHERE task = $1 AND attempt = $2",
            task, attempt,
        )  # fmt: skip

    async def renew(self, at: int) -> None:
        """An instance tells the database of whom it has heard."""
        await self.services[at].sessions._renew()

    async def tick(self, at: int, after_s: float) -> None:
        """An instance's reaper looks."""
        self._now_s[at] += after_s
        await self._reapers[at]._reap()

    async def promote(self, at: int, task: int) -> None:
        """The time of this scheduled task has come, and of no other."""
        await self._database.execute(
            "UPDATE tasks SET run_after = now() + CASE WHEN id = $1"
            " THEN interval '-1 s' ELSE interval '1 day' END WHERE status = 'scheduled'",
            task,
        )
        await self._reapers[at]._promote()

    # Meetings

    async def lock(self, task: int, connection: Connection) -> None:
        """Keep others from changing a task."""
        await connection.execute("SELECT FROM tasks WHERE id = $1 FOR UPDATE", task)

    async def claim(self, session: Session, most: int, connection: Connection) -> list[Claimed]:
        """Claim as a process does that is not one of the instances, and tells nobody."""
        lanes = await lane_store.all_lanes(connection)
        floors = [
            Queued(number, priority, 0)
            for needs, number in lanes.items()
            for priority in range(10)
            if set(needs) <= set(session.labels)
        ]
        given = await claim_store.claim_many(connection, floors, [session.number] * most)
        return [task for _, _, task in sorted(given, key=itemgetter(0))]

    async def meet(
        self,
        hold: Callable[[Connection], Awaitable[T]],
        starts: Iterable[Callable[[int], Step]],
        held: Callable[[T], None] = lambda _: None,
    ) -> int:
        """Let steps queue up behind a transaction of a third process, and behind each other.

        `hold` is what that transaction does, `held` is told of it after its commit. A step is made
        when the ones before it wait, and told how many; one that need not wait is over before the
        next one is made. Returns how many waited.
        """
        waiting: list[tuple[asyncio.Task[Any], Callable[[Any], Any]]] = []
        try:
            async with self._stage.neighbour.transaction():
                done = await hold(self._stage.neighbour)
                for start in starts:
                    call, check = start(len(waiting))
                    running = asyncio.create_task(call)
                    await self._until(_BLOCKED, len(waiting) + 1, unless=running)
                    if running.done():
                        check(running.result())
                    else:
                        waiting.append((running, check))
            held(done)
            for running, check in waiting:
                check(await running)
            return len(waiting)
        finally:
            for each, _ in waiting:
                each.cancel()
