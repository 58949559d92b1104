"""Agent, memory: what one with 16 slots takes while idle, and while all tasks write at full speed.

The tasks `cat` a file of varied lines again and again, for some seconds, and are then cancelled.
Only the agent's worker counts, not its tasks; its guardian stands beside.
"""

import itertools
import re
import shlex
import time
from pathlib import Path

import psutil

from benchmarks import logfile
from benchmarks.agents import BenchAgent
from benchmarks.conftest import Meter
from benchmarks.people import People
from schema.tasks import Submission

_SLOTS = 16
_IDLE_S = 20.0
_START_S = 30.0
_WRITE_S = 5.0
_FILE_BYTES = 8 * 1024 * 1024
_CLEAR_PEAK = "5"
_KIB = {name: re.compile(rf"^{name}:\s+(\d+) kB$", re.MULTILINE) for name in ("VmRSS", "VmHWM")}


def _mib(pid: int, name: str) -> str:
    found = _KIB[name].search(Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return f"{int(found[1]) / 1024:.0f} MiB"


def _own_mib(pid: int) -> str:
    return f"{psutil.Process(pid).memory_full_info().uss / 2**20:.0f} MiB"


def _processor_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def _wait_for_lines(path: Path, count: int) -> None:
    deadline = time.monotonic() + _START_S
    while len(path.read_text().splitlines()) < count:
        assert time.monotonic() < deadline, f"not all tasks were running after {_START_S:.0f} s"
        time.sleep(0.01)


def test_agent_memory(meter: Meter, agent: BenchAgent, people: People, tmp_path: Path) -> None:
    """Bounds that hold whatever the tasks do."""
    idle_s = meter.seconds(_IDLE_S)
    used_s = _processor_s(agent.worker)
    time.sleep(idle_s)
    used_s = _processor_s(agent.worker) - used_s
    meter.fact("idle, processor", f"{100 * used_s / idle_s:.2f} % of a core")
    meter.fact("idle, memory", _mib(agent.worker, "VmRSS"))
    meter.fact("its guardian, memory that it shares with nobody", _own_mib(agent.pid))

    path = tmp_path / "log"
    logfile.write(path, meter.size(_FILE_BYTES))
    started = tmp_path / "started"
    command = f"echo >> {shlex.quote(str(started))}; while cat {shlex.quote(str(path))}; do :; done"
    numbers = itertools.count(1)
    tasks: list[int] = []

    def write() -> None:
        group = f"memory-{next(numbers)}"
        tasks[:] = people.submit([Submission(command=command, group=group)] * _SLOTS)
        _wait_for_lines(started, _SLOTS)  # cancelled before, it has no log
        time.sleep(meter.seconds(_WRITE_S))
        people.cancel(tasks)
        assert people.wait(group).counts == {"cancelled": _SLOTS}

    def forget() -> None:
        started.write_text("")
        Path(f"/proc/{agent.worker}/clear_refs").write_text(_CLEAR_PEAK)

    meter.rounds(write, forget, count=1)
    meter.fact("16 tasks writing, peak", _mib(agent.worker, "VmHWM"))
    meter.fact("afterwards", _mib(agent.worker, "VmRSS"))
    log_bytes = 0
    for task in tasks:
        logs = people.show(task).logs
        assert isinstance(logs, dict)
        assert logs["stdout"].state == "complete"
        log_bytes += logs["stdout"].bytes
    [round_s] = meter.rounds_s()
    meter.info["log_mb_per_s"] = round(log_bytes / 1e6 / round_s, 1)
