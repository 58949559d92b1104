"""Whole lives: how many tasks a second are claimed and then reported as succeeded.

Tasks that others run meanwhile must not matter, even where PostgreSQL's statistics know of none.
"""

import asyncio

import msgspec
import pytest
from msgspec import Struct

from benchmarks import fleet as fleets
from benchmarks import wire
from benchmarks.conftest import QUICK, Meter
from benchmarks.fleet import Fleet
from benchmarks.server import BenchServer
from benchmarks.wire import Connection
from schema.claims import ClaimedTask, ClaimReply, ClaimRequest
from schema.reports import Report, ReportReply, Result, StreamTotal

_CLIENTS = 4
_AT_ONCE = 100
_PENDING = 2_000 if QUICK else 100_000
_NOTHING = StreamTotal(0, 0)
_claimed = msgspec.json.Decoder(ClaimReply)
_reply = msgspec.json.Decoder(ReportReply)


class _Left(Struct):
    """Tasks of a round that nobody asked for: no shares, see Fleet.claim."""

    count: int


async def _live(connection: Connection, session: str, left: _Left) -> None:
    while left.count:
        wanted = min(_AT_ONCE, left.count)
        left.count -= wanted
        claim = wire.post("/claims", msgspec.json.encode(ClaimRequest(session, wanted)))
        tasks = _claimed.decode(await connection.send(claim)).tasks
        left.count += wanted - len(tasks)
        report = Report(session=session, results=tuple(map(_succeeded, tasks)))
        request = wire.post("/reports", msgspec.msgpack.encode(report), wire.MSGPACK)
        verdicts = _reply.decode(await connection.send(request)).results
        assert all(each.verdict == "ok" for each in verdicts), verdicts


def _succeeded(task: ClaimedTask) -> Result:
    return Result(
        lease=task.lease, reason="exit", exit_code=0, run_s=0.1, stdout=_NOTHING, stderr=_NOTHING
    )


async def _live_all(fleet: Fleet, tasks: int) -> None:
    left = _Left(tasks)
    await asyncio.gather(
        *(
            _live(connection, session, left)
            for connection, session in zip(fleet.connections, fleet.sessions, strict=True)
        )
    )


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("held", "tasks"),
    [(0, 20_000), (10_000, 20_000)],
    ids=["nothing else runs", "10,000 more are held"],
)
def test_tasks_claimed_and_completed(
    meter: Meter, runner: asyncio.Runner, server: BenchServer, held: int, tasks: int
) -> None:
    """Tasks a second, by four clients that take and end a hundred at a time; no logs."""
    tasks = meter.size(tasks)
    with fleets.connected(runner, server, _CLIENTS, sessions=True) as fleet:
        fleet.fill(_PENDING)
        if held:
            fleet.claim(_AT_ONCE, meter.size(held))
        meter.rounds(lambda: runner.run(_live_all(fleet, tasks)), lambda: fleet.refill(tasks))
        meter.rate("tasks", tasks)
        meter.waits(fleet.waits_s())
