"""Connections to PostgreSQL: two pools for statements, single ones for listening and upkeep."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Any, Self

import asyncpg
from asyncpg import Pool
from asyncpg.pool import PoolAcquireContext

from api.store import Connection

AWAY: tuple[type[Exception], ...] = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # asyncpg's word where a connection is lost inside a COPY
    asyncpg.OperatorInterventionError,  # it starts, stops, or cancelled the statement
    asyncpg.InsufficientResourcesError,  # connections, disk, memory
    asyncpg.PostgresSystemError,  # its disk
    asyncpg.ReadOnlySQLTransactionError,  # a standby that is not promoted yet
    asyncpg.DeadlockDetectedError,
    asyncpg.InvalidCachedStatementError,  # a migration changed a table
    OSError,
    TimeoutError,
)
"""The database cannot be reached, does not answer, or went away in the middle."""

_ACQUIRE_S = 5.0
_READ_S = 10.0
_CONNECT_S = 10.0
_STATEMENT_S = 30.0
_FRESH_S = 0.1


async def _keep_session(_connection: object) -> None:
    """Do not reset a connection on release: it is one more round trip.

    Safe because no pooled connection ever changes a setting, listens, or locks beyond its
    transaction.
    """


KEPT_PLANS = {"plan_cache_mode": "force_generic_plan", "enable_seqscan": "off", "jit": "off"}
"""Settings of the connections of agents at work, whose statements have one good plan each.

Planned anew each time, as the planner would have it, a claim took twice as long. And a plan that
was made while a table was small reads all of it, and is kept when it has grown: 40 ms a claim at
300,000 tasks. Theirs walk along indexes, at any size."""


def _pool(url: str, size: int, **settings: str) -> "Pool[Any]":
    pool: Pool[Any] = asyncpg.create_pool(
        url, min_size=0, max_size=size, reset=_keep_session, timeout=_CONNECT_S,
        command_timeout=_STATEMENT_S,
        server_settings={"application_name": "distributed-worker", **settings},
    )  # fmt: skip
    return pool


class Database:
    """Bounded access: who waits too long for a connection or an answer gets a TimeoutError.

    Two pools share the connections. Forty people who listed tasks kept agents from renewing
    their sessions; and the statements of agents at work have one good plan each, which is kept,
    while those of people have filters that want a plan for each set of values.
    """

    def __init__(self, url: str, pool_size: int) -> None:
        self.url = url
        people = pool_size // 3
        self._agents = _pool(url, pool_size - people, **KEPT_PLANS)
        self._people = _pool(url, people)
        self._asking = asyncio.Lock()
        self._answered_s = -math.inf

    def acquire(self) -> "PoolAcquireContext[Any]":
        """Borrow a connection for a few statements of the system itself."""
        return self._agents.acquire(timeout=_ACQUIRE_S)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Connection]:
        """Borrow a connection for what people look at, for ten seconds at most."""
        async with asyncio.timeout(_READ_S), self._people.acquire() as connection:
            yield connection

    async def check(self, within_s: float) -> None:
        """Ask whether it answers; TimeoutError and whatever else comes of it.

        Who asks at the same time shares the answer: nobody needs a token for this, and it takes a
        connection of those that claims and renewals need.
        """
        clock = asyncio.get_running_loop().time
        async with asyncio.timeout(within_s), self._asking:
            if clock() - self._answered_s < _FRESH_S:
                return
            async with self.acquire() as connection:
                await connection.fetchval("SELECT 1")
            self._answered_s = clock()

    def kept(self) -> "Kept":
        """For a loop that has one statement after the other."""
        return Kept(self)

    async def connect(self) -> "asyncpg.Connection[Any]":
        """Open a connection outside the pools; the caller closes it."""
        connection: asyncpg.Connection[Any] = await asyncpg.connect(
            self.url, timeout=_CONNECT_S,
            server_settings={"application_name": "distributed-worker listener"},
        )  # fmt: skip
        return connection

    async def __aenter__(self) -> Self:
        await self._agents
        await self._people
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._agents.terminate()
        self._people.terminate()


class Kept:
    """A connection that is borrowed when it is first needed, and kept while there is work.

    To borrow one and give it back takes 33 µs, half as much as a single pull costs this process.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._borrowed: PoolAcquireContext[Any] | None = None
        self._connection: Connection | None = None

    async def get(self) -> Connection:
        """Borrow it, if it is not here."""
        if self._connection is None:
            borrowed = self._database.acquire()
            self._connection = await borrowed.__aenter__()
            self._borrowed = borrowed
        return self._connection

    async def give_back(self) -> None:
        """There is no work, or it is broken."""
        borrowed, self._borrowed, self._connection = self._borrowed, None, None
        if borrowed is not None:
            with suppress(*AWAY):
                await borrowed.__aexit__(None, None, None)
