"""Agent, latency: how long an idle agent's task takes from its submission to its start.

From just before the client sends `POST /tasks` until the task's bash looks at its clock: two
durable commits, an answer to a parked claim, and the start of a bash are in it. One task at a time.
"""

import shlex
import statistics
import subprocess
import time
from pathlib import Path

import pytest

from benchmarks.conftest import Meter
from benchmarks.people import People
from schema.tasks import Submission

_PAUSE_S = 0.05


def _started_at(path: Path) -> list[float]:
    """Seconds since 1970; in some languages bash writes a comma."""
    return [float(line.replace(",", ".")) for line in path.read_text().splitlines()]


def _waits_s(sent_at: list[float], path: Path) -> list[float]:
    pairs = zip(sent_at, _started_at(path), strict=True)
    return [started - sent for sent, started in pairs]


def _median_ms(seconds: list[float]) -> str:
    return f"{1000 * statistics.median(seconds):.2f} ms"


@pytest.mark.usefixtures("agent")
def test_agent_start(meter: Meter, people: People, tmp_path: Path) -> None:
    """Wait of single tasks, the machine at rest between them."""
    path = tmp_path / "by the agent"
    command = f"echo $EPOCHREALTIME >> {shlex.quote(str(path))}"
    sent_at: list[float] = []

    def submit() -> None:
        sent_at.append(time.time())
        people.submit([Submission(command=command, group=f"start-{len(sent_at)}")])

    def rest() -> None:
        if sent_at:
            time.sleep(_PAUSE_S)  # a look at once would be in the way of what is measured
            assert people.wait(f"start-{len(sent_at)}").counts == {"succeeded": 1}
        time.sleep(_PAUSE_S)  # so that the agent is idle again

    meter.rounds(submit, rest, count=meter.size(200))
    rest()
    meter.waits(_waits_s(sent_at, path))
    meter.fact("POST /tasks answered after, p50", _median_ms(meter.rounds_s()))
    meter.fact(
        "bash started by ourselves looks at its clock after, p50", _median_ms(_bare(tmp_path))
    )


def _bare(folder: Path) -> list[float]:
    path = folder / "by ourselves"
    words = ["bash", "-c", f"echo $EPOCHREALTIME >> {shlex.quote(str(path))}"]
    sent_at: list[float] = []
    for _ in range(50):
        sent_at.append(time.time())
        subprocess.run(words, check=True)
    return _waits_s(sent_at, path)
