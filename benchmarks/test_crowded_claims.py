"""Claims when much else is in the table: whether the rate is kept.

Two servers are measured in turns: one with a queue of a hundred thousand tasks and nothing else,
whose rate is the limit here, and one that has a crowd besides.
"""

import asyncio
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import asyncpg
import pytest
import uvloop
from msgspec import Struct
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks import filling, wire
from benchmarks import fleet as fleets
from benchmarks import server as servers
from benchmarks.conftest import QUICK, Meter
from benchmarks.fleet import Fleet
from benchmarks.server import BenchServer
from schema.tasks import Submission, Submitted

pytestmark = pytest.mark.timeout(600)  # five million rows take half a minute and more

_CROWDS = {"pending": 5_000_000, "finished": 5_000_000, "of others, in front": 100_000}
_PENDING = 100_000
_UNDER_SNAPSHOT = 500_000
_FEW = 2_000
if QUICK:
    _CROWDS = dict.fromkeys(_CROWDS, _FEW)
    _PENDING = _UNDER_SNAPSHOT = _FEW

_SLOTS = 16
_CLIENTS = {"claims": 16, "pulls": 64}
_TASKS = {"claims": 16_000, "pulls": 4_000}  # of a round
_WARM_UP = 1


class Pair(Struct, frozen=True):
    """The same clients twice."""

    free: Fleet
    crowded: Fleet


@pytest.fixture(scope="module")
def crowded(server: BenchServer) -> Iterator[BenchServer]:
    """Start the second server; where nothing is measured, the first one does."""
    if QUICK:
        yield server
        return
    with servers.start() as second:
        yield second


@pytest.fixture
def meter(benchmark: BenchmarkFixture, crowded: BenchServer) -> Meter:
    """Look at the processes of the crowded server."""
    one = Meter(benchmark)
    one.watch("api", crowded.pid)
    return one


@pytest.fixture(scope="module", params=_CROWDS)
def pairs(
    request: pytest.FixtureRequest, server: BenchServer, crowded: BenchServer
) -> Iterator[dict[str, Pair]]:
    """Gather a crowd, and connect clients for both ways."""
    with ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        runner.run(_gather(crowded, request.param))

        def pair(way: str) -> Pair:
            return Pair(*(stack.enter_context(_connected(runner, each, way)) for each in both))

        both = (server, crowded)
        yield {way: pair(way) for way in _CLIENTS}


async def _gather(server: BenchServer, crowd: str) -> None:
    connection = await wire.connect(server.port)
    needs = ("what-nobody-has",) if crowd == "of others, in front" else ()
    task = Submission(command="echo hello", needs=needs)
    like = (await connection.post("/tasks", task, Submitted)).id
    connection.close()
    database = await asyncpg.connect(server.dsn())
    add = filling.finish_like if crowd == "finished" else filling.queue_like
    await add(database, like, _CROWDS[crowd])
    await database.close()


@contextmanager
def _connected(
    runner: asyncio.Runner, server: BenchServer, way: str, pending: int = _PENDING
) -> Iterator[Fleet]:
    with fleets.connected(runner, server, _CLIENTS[way], sessions=way == "claims") as fleet:
        fleet.fill(pending)
        yield fleet


def _take(fleet: Fleet, tasks: int) -> None:
    if fleet.sessions:
        fleet.claim(_SLOTS, tasks)
    else:
        fleet.pull(tasks)


def _seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _limit(meter: Meter, what: str, tasks: int, rounds_s: list[float]) -> None:
    rounds_s = rounds_s[_WARM_UP:] or rounds_s
    meter.limit(what, tasks / statistics.median(rounds_s))


@pytest.mark.parametrize("way", _CLIENTS)
def test_claims_while_a_transaction_is_open(
    meter: Meter, runner: asyncio.Runner, crowded: BenchServer, way: str
) -> None:
    """After half a million claims whose dead index entries no vacuum may remove."""
    tasks = meter.size(_TASKS[way])
    rounds = 5 + _WARM_UP
    with (
        _connected(runner, crowded, "claims", _UNDER_SNAPSHOT + 2 * rounds * tasks) as claimers,
        _connected(runner, crowded, "pulls", 0) as pullers,
        _snapshot(runner, crowded),
    ):
        fleet = claimers if way == "claims" else pullers
        first_s = [_seconds(lambda: _take(fleet, tasks)) for _ in range(rounds)]
        claimers.claim(_SLOTS, _UNDER_SNAPSHOT)
        meter.rounds(lambda: _take(fleet, tasks), fleet.forget_waits)
        meter.rate("tasks", tasks)
        meter.waits(fleet.waits_s())
        _limit(meter, f"the rate before {_UNDER_SNAPSHOT:,} claims", tasks, first_s)


@contextmanager
def _snapshot(runner: asyncio.Runner, server: BenchServer) -> Iterator[None]:
    """Hold back the horizon below which dead rows may go, as a long report or a backup does."""
    database = runner.run(asyncpg.connect(server.dsn()))
    runner.run(database.execute("BEGIN ISOLATION LEVEL REPEATABLE READ"))
    runner.run(database.fetchval("SELECT count(*) FROM lanes"))
    try:
        yield
    finally:
        runner.run(database.close())


@pytest.mark.parametrize("way", _CLIENTS)
def test_claims_in_a_crowd(meter: Meter, pairs: dict[str, Pair], way: str) -> None:
    """Tasks a second by 16 clients with 16 slots, or by 64 that pull single ones."""
    tasks = meter.size(_TASKS[way])
    pair = pairs[way]
    free_s: list[float] = []

    def free_round() -> None:
        for fleet in (pair.free, pair.crowded):
            fleet.refill(tasks)
        free_s.append(_seconds(lambda: _take(pair.free, tasks)))

    meter.rounds(lambda: _take(pair.crowded, tasks), free_round)
    meter.rate("tasks", tasks)
    meter.waits(pair.crowded.waits_s())
    _limit(meter, "the free rate", tasks, free_s)
