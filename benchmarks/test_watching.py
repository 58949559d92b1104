"""Watching: how long it takes from a task's write until its text is at a watcher.

An agent reads the task's pipe; a line is the time just before it was written. Agents of watched
tasks send within 250 ms, and what is on its way meanwhile comes with it: lines that come alone wait
for longer than those of a task that writes all the time.
"""

import asyncio
import itertools

import pytest

from benchmarks import watchers
from benchmarks.conftest import Meter
from benchmarks.people import People
from benchmarks.server import BenchServer
from schema.tasks import Submission

_LINES = 300
_ALONE = 60


@pytest.mark.parametrize(
    ("lines", "pause_s"), [(_LINES, 0.1), (_ALONE, 1.31)], ids=["10/s", "alone"]
)
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("agent")
def test_watching(
    meter: Meter,
    people: People,
    runner: asyncio.Runner,
    server: BenchServer,
    lines: int,
    pause_s: float,
) -> None:
    """Lines with so many seconds between them, seen by somebody who was there before."""
    waits_s: list[float] = []
    numbers = itertools.count(1)
    count = meter.size(lines)
    pause = meter.seconds(pause_s) if pause_s > 1 else pause_s
    # It begins when the agent has heard that it is watched: that takes a beat.
    write = f"for i in $(seq {count}); do sleep {pause}; echo $EPOCHREALTIME; done"
    command = f"sleep 1; {write}"

    def heard(data: bytes, now: float) -> None:
        waits_s.extend(now - float(line.replace(",", ".")) for line in watchers.lines(data))

    async def watch(task: int) -> None:
        watcher = await watchers.watch(server, f"/tasks/{task}/logs/live", heard)
        await watcher.ended
        watcher.close()

    def measured() -> None:
        waits_s.clear()
        group = f"watching-{pause_s}-{next(numbers)}"
        (task,) = people.submit([Submission(command=command, group=group)])
        runner.run(watch(task))
        assert people.wait(group).counts == {"succeeded": 1}

    meter.rounds(measured, lambda: None, count=1)
    assert len(waits_s) == count
    meter.waits(waits_s)
