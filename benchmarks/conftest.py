"""The server, an agent, the event loop, and the meter of all benchmarks.

BENCH_QUICK=1 makes each run once with next to nothing: it shows that they work, and no figure.
"""

import asyncio
import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import uvloop
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks import agents, machine, tables, usage
from benchmarks import server as servers
from benchmarks.agents import BenchAgent
from benchmarks.people import People
from benchmarks.server import BenchServer
from benchmarks.usage import Usage

QUICK = os.environ.get("BENCH_QUICK", "") not in {"", "0"}
_ROUNDS = 5


@pytest.fixture(scope="session")
def server() -> Iterator[BenchServer]:
    """Start one server for all benchmarks."""
    with servers.start() as running:
        yield running


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """Make an event loop for the clients."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as one:
        yield one


class Meter:
    """Runs rounds of a benchmark and writes down what it took."""

    def __init__(self, benchmark: BenchmarkFixture) -> None:
        self.info: dict[str, Any] = benchmark.extra_info
        self._benchmark = benchmark
        self._programs: dict[str, int] = {}
        self._limits_per_s: list[float] = []
        self._rates_per_s: list[float] = []

    def size(self, full: int) -> int:
        """How much one round does."""
        return max(16, full // 100) if QUICK else full

    def seconds(self, full: float) -> float:
        """How long a limit, or something at rest, is measured."""
        return 0.1 if QUICK else full

    def watch(self, name: str, pid: int) -> None:
        """Tell apart the cores that a process and its children use; unwatched, they are noise."""
        self._programs[name] = pid

    def rounds(
        self,
        measured: Callable[[], object],
        prepare: Callable[[], object],
        count: int = _ROUNDS,
        limit: Callable[[], float] | None = None,
    ) -> None:
        """Run `measured` after `prepare`, which is not timed, some times and once before.

        `limit` gives what is possible per second. It is asked before each round, so that both sides
        of a ratio meet the same noise; `limit_in_turns` writes it down.
        """
        used = Usage()
        before = Usage()
        each = count <= _ROUNDS  # looking takes some 20 ms: not between short rounds

        def setup() -> None:
            nonlocal before
            if limit is not None:
                self._limits_per_s.append(limit())
            prepare()
            if each:
                before = self._usage()

        def teardown() -> None:
            nonlocal used
            if each:
                used = used.plus(self._usage().minus(before))

        start = self._usage()
        self._benchmark.pedantic(  # type: ignore[no-untyped-call]  # it has no hints
            measured,
            setup=setup,
            teardown=teardown,
            rounds=1 if QUICK else count,
            warmup_rounds=0 if QUICK else 1,
        )
        if not each:
            used = self._usage().minus(start)
        self.info["cores"] = used.cores()

    def _usage(self) -> Usage:
        return usage.count(self._programs)

    def rounds_s(self) -> list[float]:
        """How long each round took."""
        assert self._benchmark.stats is not None
        return list(self._benchmark.stats.stats.data)

    def rate(self, unit: str, done_each_round: int) -> float:
        """Write down the median rate over the rounds, and how far they spread."""
        data = self.rounds_s()
        median = statistics.median(data)
        rate = done_each_round / median
        self._rates_per_s = [done_each_round / each for each in data]
        self.info |= {
            "unit": unit,
            "per_s": round(rate),
            "spread": round((max(data) - min(data)) / median, 2),
        }
        return rate

    def waits(self, waits_s: Sequence[float]) -> None:
        """Write down how long single requests took."""
        ordered = sorted(waits_s)
        for name, part in (("p50_ms", 0.5), ("p99_ms", 0.99)):
            self.info[name] = round(1000 * ordered[int(part * (len(ordered) - 1))], 2)

    def limit(self, what: str, per_s: float) -> None:
        """Write down what was possible at most."""
        self.info |= {
            "limit": what,
            "limit_per_s": round(per_s),
            "of_limit": round(self.info["per_s"] / per_s, 2),
        }

    def limit_in_turns(self, what: str) -> None:
        """Write down the limit that `rounds` asked: the ratio is the median of its pairs'."""
        rates = self._rates_per_s
        limits = self._limits_per_s[-len(rates) :]  # the one of the warm-up came first
        ratios = [rate / limit for rate, limit in zip(rates, limits, strict=True)]
        self.info |= {
            "limit": what,
            "limit_per_s": round(statistics.median(limits)),
            "of_limit": round(statistics.median(ratios), 2),
            "of_limit_range": f"{min(ratios):.2f} to {max(ratios):.2f}",
        }

    def fact(self, name: str, text: str) -> None:
        """Write down a figure that has no column, with its unit."""
        self.info.setdefault("facts", {})[name] = text


@pytest.fixture
def meter(request: pytest.FixtureRequest, benchmark: BenchmarkFixture) -> Meter:
    """Make the meter of one benchmark, which may do without the server."""
    one = Meter(benchmark)
    if "server" in request.fixturenames:
        one.watch("api", request.getfixturevalue("server").pid)
    return one


@pytest.fixture
def people(runner: asyncio.Runner, server: BenchServer) -> Iterator[People]:
    """Connect somebody who submits tasks; in the end make room on the disk."""
    one = People(runner, server)
    yield one
    one.close()
    runner.run(tables.clear_logs(server))


@pytest.fixture
def agent(runner: asyncio.Runner, server: BenchServer, meter: Meter) -> Iterator[BenchAgent]:
    """Start an agent with 16 slots, and nothing to do for it."""
    runner.run(tables.clear_queue(server))
    with agents.start(server, slots=16) as one:
        meter.watch("agent", one.pid)
        yield one


def pytest_benchmark_update_machine_info(
    config: pytest.Config, machine_info: dict[str, Any]
) -> None:
    """Add what the figures depend on."""
    machine_info.pop("node", None)  # the machine's name is nobody's business
    machine_info |= machine.describe() | {"quick": QUICK}
