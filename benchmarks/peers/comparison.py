"""Rounds of several systems in turn, so that what the machine does meanwhile hits all alike.

pytest-benchmark runs all rounds of one benchmark before those of the next. So the rounds are run
and timed here, and each system's benchmark is told its rounds again, by a clock that stands still
otherwise.
"""

import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec import Struct, field
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks import usage
from benchmarks.conftest import QUICK
from benchmarks.server import BenchServer
from benchmarks.usage import Usage

_ROUNDS = 5
_LEAST = 32


class System(Protocol):
    """One way to do the work."""

    @property
    def name(self) -> str:
        """Product, version, setting."""

    @property
    def tasks(self) -> int:
        """How many one round does."""

    @property
    def pids(self) -> Sequence[int]:
        """Processes that work for it, besides the server and this one."""

    @property
    def facts(self) -> Mapping[str, str]:
        """What else a reader must know to compare it."""

    def prepare(self) -> None:
        """Get ready for a round; not timed."""

    def run(self) -> None:
        """Do one round."""

    def finish(self) -> None:
        """Assert that all was done, and clean up; not timed."""


class Rounds(Struct):
    """What the rounds of one system took."""

    system: System
    seconds: list[float] = field(default_factory=list)
    used: Usage = field(default_factory=Usage)

    @property
    def per_s(self) -> float:
        """Tasks a second in the median round."""
        return self.system.tasks / statistics.median(self.seconds)

    @property
    def best_per_s(self) -> float:
        """Tasks a second in the fastest round."""
        return self.system.tasks / min(self.seconds)


class Clock:
    """The timer of benchmarks that are told their rounds."""

    __name__ = "clock of interleaved rounds"

    def __init__(self) -> None:
        self._now_s = 0.0

    def __call__(self) -> float:
        """Read it, in seconds."""
        return self._now_s

    def advance(self, seconds: float) -> None:
        """Let a round take this long."""
        self._now_s += seconds


clock = Clock()


def size(full: int) -> int:
    """How much one round does."""
    return max(_LEAST, full // 100) if QUICK else full


def interleave(
    server: BenchServer, systems: Sequence[System], rounds: int = _ROUNDS, *, warm_up: bool = True
) -> list[Rounds]:
    """Run some rounds of every system in turn, after one that does not count; or one, if quick."""
    all_rounds = [Rounds(each) for each in systems]
    unmeasured = int(warm_up and not QUICK)
    for number in range(unmeasured + (1 if QUICK else rounds)):
        # Another one begins each time: what one leaves behind does not always hit the same other.
        first = number % len(all_rounds)
        for each in (*all_rounds[first:], *all_rounds[:first]):
            seconds, used = _one_round(server, each.system)
            if number >= unmeasured:
                each.seconds.append(seconds)
                each.used = each.used.plus(used)
    return all_rounds


def _one_round(server: BenchServer, system: System) -> tuple[float, Usage]:
    system.prepare()
    before = _usage(server, system)
    start = time.perf_counter()
    system.run()
    seconds = time.perf_counter() - start
    used = _usage(server, system).minus(before)
    system.finish()
    return seconds, used


def _usage(server: BenchServer, system: System) -> Usage:
    """Count the server, and all other processes of the system as one."""
    numbered = {f"worker {number}": pid for number, pid in enumerate(system.pids)}
    counted = usage.count({"api": server.pid, **numbered})
    workers = sum(counted.watched.pop(name) for name in numbered)
    counted.watched["workers"] = workers
    return counted


def tell(benchmark: BenchmarkFixture, group: str, measured: Rounds) -> None:
    """Make the rounds those of `benchmark`, which must have `clock` as its timer."""
    seconds = iter(measured.seconds)
    benchmark.pedantic(  # type: ignore[no-untyped-call]  # it has no hints
        lambda: clock.advance(next(seconds)), rounds=len(measured.seconds)
    )
    slowest, median = max(measured.seconds), statistics.median(measured.seconds)
    benchmark.extra_info |= {
        "group": group,
        "system": measured.system.name,
        "unit": "tasks",
        "per_s": round(measured.per_s),
        "spread": round((slowest - min(measured.seconds)) / median, 2),
        "cores": measured.used.cores(),
        "facts": {"A round": f"{measured.system.tasks:,} tasks", **measured.system.facts},
    }
