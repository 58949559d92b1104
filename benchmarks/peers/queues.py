"""Queues in PostgreSQL that have no server of their own: tables in a database, and workers."""

import asyncio
import importlib.metadata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from msgspec import Struct

from benchmarks.conftest import QUICK
from benchmarks.peers import comparison, processes, statements
from benchmarks.peers.processes import PeerProcess
from benchmarks.server import BenchServer

_WORKERS = 4


class Peer(Struct, frozen=True):
    """What one product needs."""

    package: str
    setting: str
    """What the number is that a worker is opened with."""
    clear: str
    """Statement that empties its tables."""
    analyze: str
    completed: str
    """Query for how many jobs are done and no more in the queue."""
    facts: Mapping[str, str]


PGQUEUER = Peer(
    package="pgqueuer",
    setting="batch_size",
    clear="TRUNCATE pgqueuer, pgqueuer_log",
    analyze="ANALYZE pgqueuer",
    completed=(
        "SELECT count(*) FROM pgqueuer_log"
        " WHERE status = 'successful' AND NOT EXISTS (SELECT FROM pgqueuer)"
    ),
    facts={
        "Set up": "asyncpg, uvloop, a connection for each, its autovacuum settings, `durable`",
        "Done jobs": "leave the queue for its log, a batch or 0.1 s at a time",
    },
)
PROCRASTINATE = Peer(
    package="procrastinate",
    setting="concurrency",
    clear="TRUNCATE procrastinate_jobs, procrastinate_workers CASCADE",
    analyze="ANALYZE procrastinate_jobs",
    completed="SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'",
    facts={
        "Set up": "psycopg (C), uvloop, a pool of one connection more than the concurrency",
        "Done jobs": "stay in the table, a statement each to take and to finish it",
    },
)


class Database:
    """A peer's own database in the benchmark's server, and processes on it."""

    def __init__(
        self, runner: asyncio.Runner, dsn: str, peer: Peer, workers: Sequence[PeerProcess]
    ) -> None:
        self._runner = runner
        self._dsn = dsn
        self.peer = peer
        self.workers = workers

    def value(self, statement: str) -> int:
        """Run a statement; the value that it returns, if any."""
        return self._runner.run(statements.value(self._dsn, statement))


@contextmanager
def database(runner: asyncio.Runner, server: BenchServer, peer: Peer) -> Iterator[Database]:
    """Make its database and start its workers; drop both in the end."""
    name = f"bench_{peer.package}"
    runner.run(statements.value(server.dsn(), f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
    runner.run(statements.value(server.dsn(), f"CREATE DATABASE {name}"))
    try:
        dsn = server.dsn(name)
        with processes.started(f"{peer.package}_worker", dsn, count=_WORKERS) as workers:
            workers[0].ask("install")
            yield Database(runner, dsn, peer, workers)
    finally:
        runner.run(statements.value(server.dsn(), f"DROP DATABASE {name} WITH (FORCE)"))


class Queue:
    """Some workers of a peer, with one setting; a `comparison.System`."""

    def __init__(self, database: Database, *, workers: int, number: int, tasks: int) -> None:
        peer = database.peer
        version = importlib.metadata.version(peer.package)
        self.setting = f"{peer.setting}={number}, processes={workers}"
        self.name = f"{peer.package} {version}, {self.setting}"
        self.tasks = tasks
        self.facts = dict(peer.facts)
        self._database = database
        self._workers = database.workers[:workers]
        self.pids = [each.pid for each in self._workers]
        self._number = number

    def prepare(self) -> None:
        """Fill the queue, connect the workers."""
        peer = self._database.peer
        self._database.value(peer.clear)
        self._workers[0].ask("fill", self.tasks)
        self._database.value(peer.analyze)
        self._database.value("CHECKPOINT")
        processes.all_do(self._workers, "open", self._number)

    def run(self) -> None:
        """Work until the queue is empty."""
        processes.all_do(self._workers, "run")

    def finish(self) -> None:
        """Hang up; all must be done."""
        processes.all_do(self._workers, "close")
        done = self._database.value(self._database.peer.completed)
        assert done == self.tasks, f"{self.name}: {done} of {self.tasks} jobs are done"


def fastest(server: BenchServer, candidates: Sequence[Queue]) -> Queue:
    """Try each twice, in turn; the one with the fastest round, as noise makes none faster."""
    if QUICK:
        return candidates[0]
    tried = comparison.interleave(server, candidates, rounds=2, warm_up=False)
    best = max(range(len(tried)), key=lambda number: tried[number].best_per_s)
    candidates[best].facts["Tried, better of two rounds"] = "; ".join(
        f"{queue.setting}: {each.best_per_s:,.0f} per second"
        for queue, each in zip(candidates, tried, strict=True)
    )
    return candidates[best]
