"""Claim and complete: taking tasks and finishing them, over the same PostgreSQL.

The tasks are in the queue before a round begins, and there is no work in them. Nobody may lose what
is finished: fsync is on, and every commit waits for the disk.
"""

import asyncio
from collections.abc import Iterator

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks import tables
from benchmarks.peers import comparison, queues
from benchmarks.peers.comparison import Rounds, System, clock
from benchmarks.peers.our_claims import Claims
from benchmarks.peers.queues import Queue
from benchmarks.server import BenchServer

pytestmark = [pytest.mark.benchmark(timer=clock), pytest.mark.timeout(1200)]

_GROUP = "Claim and complete"
_TASKS = 20_000
_SLOW_TASKS = 4000  # for procrastinate, which takes one at a time: 20,000 are half a minute a round
_SYSTEMS = (
    "ours, 100 at a time",
    "ours, 10 at a time",
    "ours, 1000 at a time",
    "pgqueuer, default batches",
    "pgqueuer, best batches",
    "procrastinate",
)


@pytest.fixture(scope="module")
def measured(server: BenchServer, module_runner: asyncio.Runner) -> Iterator[dict[str, Rounds]]:
    """Find the best settings of the peers, then run all rounds of all systems."""
    tasks, slow_tasks = comparison.size(_TASKS), comparison.size(_SLOW_TASKS)
    module_runner.run(tables.clear_queue(server))
    with (
        queues.database(module_runner, server, queues.PGQUEUER) as pgqueuer,
        queues.database(module_runner, server, queues.PROCRASTINATE) as procrastinate,
    ):
        # Its guides: a process for each core, larger batches where jobs are short, one connection
        # for a worker. (They also name a pool. With one of 3, two workers did 6,900 jobs/s in
        # batches of 10 and 16,900 in batches of 1,000; with one connection 7,600 and 19,600.)
        default = [Queue(pgqueuer, workers=each, number=10, tasks=tasks) for each in (2, 4)]
        larger = [
            Queue(pgqueuer, workers=workers, number=batch, tasks=tasks)
            for workers in (2, 4)
            for batch in (1000, 500, 100)
        ]
        # As many connections as the API leaves of PostgreSQL's: some 16.
        concurrent = [
            Queue(procrastinate, workers=workers, number=concurrency, tasks=slow_tasks)
            for workers, concurrency in ((4, 2), (2, 5), (1, 10))
        ]
        systems: tuple[System, ...] = (
            Claims(module_runner, server, at_once=100, tasks=tasks),
            Claims(module_runner, server, at_once=10, tasks=tasks),
            Claims(module_runner, server, at_once=1000, tasks=tasks),
            queues.fastest(server, default),
            queues.fastest(server, larger),
            queues.fastest(server, concurrent),
        )
        all_rounds = comparison.interleave(server, systems)
        yield dict(zip(_SYSTEMS, all_rounds, strict=True))


@pytest.mark.parametrize("system", _SYSTEMS)
def test_claim_and_complete(
    benchmark: BenchmarkFixture, measured: dict[str, Rounds], system: str
) -> None:
    """Tasks a second by some workers, until none is left."""
    comparison.tell(benchmark, _GROUP, measured[system])
