"""Processor time: of the benchmark itself, of the programs that it watches, and of the machine."""

import os
import time
from collections.abc import Mapping
from contextlib import suppress

import psutil
from msgspec import Struct, field


class Usage(Struct):
    """Processor seconds, and the seconds in which they were used."""

    wall: float = 0.0
    machine: float = 0.0
    """Of all processes."""
    watched: dict[str, float] = field(default_factory=dict)
    """By name; `client` is the benchmark with the programs that it ran to their end."""

    def minus(self, other: "Usage") -> "Usage":
        """What came between."""
        return self._joined(other, -1)

    def plus(self, other: "Usage") -> "Usage":
        """Both together."""
        return self._joined(other, 1)

    def _joined(self, other: "Usage", sign: int) -> "Usage":
        names = dict.fromkeys((*self.watched, *other.watched))
        return Usage(
            self.wall + sign * other.wall,
            self.machine + sign * other.machine,
            {
                name: self.watched.get(name, 0.0) + sign * other.watched.get(name, 0.0)
                for name in names
            },
        )

    def cores(self) -> dict[str, float]:
        """Cores in use on average; `others` is what had nothing to do with the benchmark."""
        wall = self.wall or 1.0
        others = max(0.0, self.machine - sum(self.watched.values()))
        return {
            name: round(seconds / wall, 2)
            for name, seconds in [*self.watched.items(), ("others", others)]
        }


def count(programs: Mapping[str, int]) -> Usage:
    """Count up to now. `programs` are process ids by name; their children count with them.

    PostgreSQL counts by itself, whoever started it.
    """
    ran = os.times()
    watched = {"client": time.process_time() + ran.children_user + ran.children_system}
    for name, pid in programs.items():
        watched.setdefault(name, 0.0)
        with suppress(psutil.NoSuchProcess):
            main = psutil.Process(pid)
            for process in [main, *main.children(recursive=True)]:
                _add(watched, name, process)
    machine = psutil.cpu_times()
    busy = sum(machine) - machine.idle - getattr(machine, "iowait", 0.0)
    return Usage(time.perf_counter(), busy, watched)


def _add(watched: dict[str, float], name: str, process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        times = process.cpu_times()
        owner = "postgres" if process.name() == "postgres" else name
        # Those that ended have left their time with their parent.
        spent = times.user + times.system + times.children_user + times.children_system
        watched[owner] = watched.get(owner, 0.0) + spent
