"""Submissions: how many tasks a second are handed over, one by one and in arrays."""

import asyncio

import msgspec
import pytest

from benchmarks import fleet as fleets
from benchmarks import wire
from benchmarks.conftest import Meter
from benchmarks.fleet import Fleet
from benchmarks.server import BenchServer
from schema.tasks import Submission

_TASK = Submission(command="echo hello", name="test_login", group="nightly")


async def _submit_all(fleet: Fleet, request: bytes, each: int) -> None:
    async def submit(connection: wire.Connection) -> None:
        for _ in range(each):
            await connection.send(request)

    await asyncio.gather(*map(submit, fleet.connections))


@pytest.mark.parametrize(
    ("clients", "array", "tasks"),
    [(16, None, 4_000), (4, 1_000, 40_000)],
    ids=["16 clients, one by one", "4 clients, arrays of 1,000"],
)
def test_submissions(
    meter: Meter,
    runner: asyncio.Runner,
    server: BenchServer,
    clients: int,
    array: int | None,
    tasks: int,
) -> None:
    """Tasks a second, with a name and a group, acknowledged, so committed."""
    at_once = array or 1
    request = wire.post("/tasks", msgspec.json.encode([_TASK] * array if array else _TASK))
    each = max(1, meter.size(tasks) // clients // at_once)
    with fleets.connected(runner, server, clients, sessions=False) as fleet:
        meter.rounds(lambda: runner.run(_submit_all(fleet, request, each)), fleet.forget_waits)
        meter.rate("tasks", each * clients * at_once)
        meter.waits(fleet.waits_s())
