"""Agent, latency: how long an idle agent's task takes from its submission to its start.

From just before the client sends `POST /tasks` until the task's bash looks at its clock: two
durable commits, an answer to a parked claim, and the start of a bash are in it. One task at a time,
once with a machine that is at rest in between, once at a brisk pace. A virtual machine takes long
to wake up, and so does its disk: what the same pause does to one bash and one INSERT stands beside.
"""

import asyncio
import shlex
import statistics
import subprocess
import time
from pathlib import Path

import asyncpg
import pytest

from benchmarks.conftest import Meter
from benchmarks.people import People
from benchmarks.server import BenchServer
from schema.tasks import Submission

_TASKS = 200
_ALONE = 60


@pytest.mark.parametrize("pause_s", [0.1, 0.01], ids=["at rest", "brisk"])
@pytest.mark.usefixtures("agent")
def test_agent_start(
    meter: Meter,
    people: People,
    runner: asyncio.Runner,
    server: BenchServer,
    tmp_path: Path,
    pause_s: float,
) -> None:
    """Wait of single tasks, with so many seconds between them."""
    path = tmp_path / "by the agent"
    task = Submission(command=_look(path), group=f"start-{pause_s}")
    sent_at: list[float] = []

    def submit() -> None:
        sent_at.append(time.time())
        people.submit([task])

    meter.rounds(submit, lambda: time.sleep(pause_s), count=meter.size(_TASKS))
    assert people.wait(f"start-{pause_s}").counts == {"succeeded": len(sent_at)}
    waits_s = _waits_s(sent_at, path)
    meter.waits(waits_s)
    bash_s = _bash_s(tmp_path / "by ourselves", meter.size(_ALONE), pause_s)
    meter.fact("without the start of bash, p50", _ms(statistics.median(waits_s) - bash_s))
    meter.fact("bash started by ourselves looks at its clock after, p50", _ms(bash_s))
    meter.fact("POST /tasks answered after, p50", _ms(statistics.median(meter.rounds_s())))
    insert_s = runner.run(_insert_s(server, meter.size(_ALONE), pause_s))
    meter.fact("a durable INSERT at that pace, p50", _ms(insert_s))


def _look(path: Path) -> str:
    return f"echo $EPOCHREALTIME >> {shlex.quote(str(path))}"


def _waits_s(sent_at: list[float], path: Path) -> list[float]:
    """Seconds to each start, in the order of both; in some languages bash writes a comma."""
    started_at = [float(line.replace(",", ".")) for line in path.read_text().splitlines()]
    return [started - sent for sent, started in zip(sent_at, started_at, strict=True)]


def _bash_s(path: Path, count: int, pause_s: float) -> float:
    sent_at: list[float] = []
    for _ in range(count):
        time.sleep(pause_s)
        sent_at.append(time.time())
        subprocess.run(["bash", "-c", _look(path)], check=True)
    return statistics.median(_waits_s(sent_at, path))


async def _insert_s(server: BenchServer, count: int, pause_s: float) -> float:
    connection = await asyncpg.connect(server.dsn())
    try:
        await connection.execute("CREATE TABLE IF NOT EXISTS bench_insert (number integer)")
        waits_s = []
        for number in range(count):
            await asyncio.sleep(pause_s)
            start = time.perf_counter()
            await connection.execute("INSERT INTO bench_insert VALUES ($1)", number)
            waits_s.append(time.perf_counter() - start)
        await connection.execute("DROP TABLE bench_insert")
    finally:
        await connection.close()
    return statistics.median(waits_s)


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.2f} ms"
