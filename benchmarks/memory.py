"""Memory of a server's processes, as Linux counts it; all figures in MiB."""

import re
from collections.abc import Iterable
from pathlib import Path

import psutil

from benchmarks.server import BenchServer

_MIB = 2**20
_RESET_PEAK = "5"  # see proc_pid_clear_refs(5)


def workers(server: BenchServer) -> list[psutil.Process]:
    """The API's workers, without the process that starts them."""
    return [
        each
        for each in psutil.Process(server.pid).children()
        if each.name() != "postgres" and "spawn_main" in " ".join(each.cmdline())
    ]


def postgres(server: BenchServer) -> list[psutil.Process]:
    """All of PostgreSQL's processes."""
    children = psutil.Process(server.pid).children(recursive=True)
    return [each for each in children if each.name() == "postgres"]


def shares(processes: Iterable[psutil.Process]) -> list[float]:
    """What each takes; of pages that it shares with others, its part."""
    return [each.memory_full_info().pss / _MIB for each in processes]


def forget_peaks(server: BenchServer) -> None:
    """Let the workers' peaks be what they have now."""
    for each in workers(server):
        Path(f"/proc/{each.pid}/clear_refs").write_text(_RESET_PEAK)


def peaks(server: BenchServer) -> list[float]:
    """The most that each worker had at any moment since `forget_peaks`."""
    return [_status(each, "VmHWM") for each in workers(server)]


def resident(server: BenchServer) -> list[float]:
    """What each worker has now."""
    return [_status(each, "VmRSS") for each in workers(server)]


def _status(process: psutil.Process, field: str) -> float:
    text = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(rf"^{field}:\s*(\d+) kB$", text, re.MULTILINE)
    assert found is not None, f"no {field} of process {process.pid}"
    return int(found[1]) / 1024


def text(each: Iterable[float]) -> str:
    """For people."""
    return ", ".join(f"{mib:.0f}" for mib in each) + " MiB"
