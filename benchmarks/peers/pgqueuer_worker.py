"""A process of pgqueuer, told what to do by `processes`.

As its guide to performance says: asyncpg, one connection for a queue manager (pools are for
producers), uvloop as its own command has it, its autovacuum settings, and the default durability,
which keeps jobs over a crash.
"""

import sys
from datetime import timedelta

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.models import Job
from pgqueuer.queries import Queries
from pgqueuer.types import QueueExecutionMode

from benchmarks.peers.queue_worker import serve_queue

_AT_ONCE = 5000
_ENTRYPOINT = "nothing"

# How long a worker that finds nothing waits for news before it looks again. With the default of
# 30 s a round could end that late, where another worker did the last jobs.
_LOOK_AGAIN = timedelta(seconds=0.1)


class Worker:
    """One queue manager."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._batch = 0
        self._done = 0

    async def install(self) -> None:
        """Make the tables."""
        connection = await asyncpg.connect(self._dsn)
        queries = Queries.from_asyncpg_connection(connection)
        await queries.install()
        await queries.optimize_autovacuum()
        await connection.close()

    async def fill(self, count: int) -> None:
        """Add so many jobs."""
        connection = await asyncpg.connect(self._dsn)
        queries = Queries.from_asyncpg_connection(connection)
        for first in range(0, count, _AT_ONCE):
            some = min(_AT_ONCE, count - first)
            await queries.enqueue([_ENTRYPOINT] * some, [b"echo hello"] * some, [0] * some)
        await connection.close()

    async def open(self, batch: int) -> None:
        """Connect, to take so many jobs at a time."""
        self._batch = batch
        self._done = 0
        self._connection = await asyncpg.connect(self._dsn)
        self._peer = PgQueuer.from_asyncpg_connection(self._connection)
        self._peer.entrypoint(_ENTRYPOINT)(self._do_nothing)

    async def _do_nothing(self, job: Job) -> None:
        self._done += 1

    async def run(self) -> int:
        """Work until the queue is empty; how many jobs were done."""
        await self._peer.qm.run(
            batch_size=self._batch, mode=QueueExecutionMode.drain, dequeue_timeout=_LOOK_AGAIN
        )
        return self._done

    async def close(self) -> None:
        """Hang up."""
        await self._connection.close()


def main() -> None:
    """Serve; the database is the first argument."""
    serve_queue(Worker(sys.argv[1]))
