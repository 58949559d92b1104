"""Viewers: what 1,000 of one task, and 200 of a group of 50 tasks, cost.

Each task writes ten lines a second. An agent reports them four times a second, as agents do while
somebody watches; the waits are from the sending of a report until it is at each viewer. What the
same costs without viewers stands beside. The server is one of its own: its memory is counted.
"""

import asyncio
import itertools
import time
from collections.abc import Iterator

import asyncpg
import msgspec
import pytest

from api import members
from benchmarks import memory, tables, usage, watchers, wire
from benchmarks import server as servers
from benchmarks.conftest import QUICK, Meter
from benchmarks.server import BenchServer
from benchmarks.sessions import open_session
from benchmarks.usage import Usage
from benchmarks.watchers import Watcher
from benchmarks.wire import MSGPACK, Connection
from schema import marks
from schema.claims import ClaimedTask, ClaimReply, ClaimRequest
from schema.reports import LogChunk, Report, ReportReply
from schema.tasks import Submission, Submitted

_FLUSH_S = 0.25
_LINES_PER_S = 10
_MEASURED_S = 20.0
_OPEN_AT_ONCE = 50
_LATE_S = 0.1 if QUICK else 1.2
"""PostgreSQL tells its counts so much later."""

_WARM_UP = 10  # after them the API has opened its connections


@pytest.fixture
def server(server: BenchServer) -> Iterator[BenchServer]:
    """Start one for this alone: its memory is counted."""
    if QUICK:
        yield server
        return
    with servers.start() as own:
        yield own


class Writers:
    """An agent whose tasks write lines."""

    def __init__(self, connection: Connection, session: str, tasks: list[ClaimedTask]) -> None:
        self._connection = connection
        self._session = session
        self._tasks = tasks
        self.first = tasks[0].id
        self._offset = 0

    async def report(self) -> None:
        """Send what all tasks wrote since the last report; a line is the time of the sending."""
        count = round(_FLUSH_S * _LINES_PER_S)
        text = b"".join(b"%.6f a line of a test\n" % time.time() for _ in range(count))
        size = len(text) // count
        now_us = time.time_ns() // 1000
        times = marks.encode((line * size, now_us + line) for line in range(count))
        content = members.deflate(text)
        chunks = tuple(
            LogChunk(lease=task.lease, stream="stdout", offset=self._offset, content=content,
                     marks=times)
            for task in self._tasks
        )  # fmt: skip
        self._offset += len(text)
        body = msgspec.msgpack.encode(Report(session=self._session, chunks=chunks))
        reply = await self._connection.send(wire.post("/reports", body, MSGPACK))
        verdicts = msgspec.json.decode(reply, type=ReportReply).chunks
        assert all(each.verdict == "ok" for each in verdicts), verdicts

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    async def run(self, seconds: float) -> None:
        """Report all the time."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        for number in itertools.count(1):
            await self.report()
            at = until - seconds + number * _FLUSH_S
            if at > until:
                return
            await asyncio.sleep(at - loop.time())


async def _writers(server: BenchServer, group: str, tasks: int) -> Writers:
    connection = await wire.connect(server.port)
    session = await open_session(connection)
    submissions = [Submission(command="true", group=group)] * tasks
    await connection.post("/tasks", submissions, list[Submitted])
    claim = ClaimRequest(session, slots=tasks)
    claimed = await connection.post("/claims", claim, ClaimReply)
    assert len(claimed.tasks) == tasks
    return Writers(connection, session, list(claimed.tasks))


async def _statements(server: BenchServer) -> int:
    """How many transactions there were; nearly all are one statement."""
    database = await asyncpg.connect(server.dsn())
    try:
        count: int = await database.fetchval(
            "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
        )
        return count
    finally:
        await database.close()


class _Cost:
    """What some seconds of writing took."""

    def __init__(self, used: Usage, statements: float) -> None:
        self.cores = used.cores()
        self.statements = statements


def _write(runner: asyncio.Runner, server: BenchServer, writers: Writers, seconds: float) -> _Cost:
    runner.run(asyncio.sleep(_LATE_S))
    statements = runner.run(_statements(server))
    before = usage.count({"api": server.pid})
    runner.run(writers.run(seconds))
    used = usage.count({"api": server.pid}).minus(before)
    runner.run(asyncio.sleep(_LATE_S))
    return _Cost(used, (runner.run(_statements(server)) - statements) / (seconds + 2 * _LATE_S))


@pytest.mark.parametrize(("tasks", "viewers"), [(1, 1000), (50, 200)], ids=["task", "group"])
@pytest.mark.timeout(300)
def test_viewers(
    meter: Meter, runner: asyncio.Runner, server: BenchServer, tasks: int, viewers: int
) -> None:
    """From a report until each of them has it."""
    viewers = 20 if QUICK else viewers
    seconds = meter.seconds(_MEASURED_S)
    runner.run(tables.clear_queue(server))
    group = f"viewers-{tasks}"
    writers = runner.run(_writers(server, group, tasks))
    path = f"/groups/{group}/logs/live" if tasks > 1 else f"/tasks/{writers.first}/logs/live"
    alone = _write(runner, server, writers, seconds)
    waits_s: list[float] = []

    def heard(data: bytes, now: float) -> None:
        waits_s.extend(now - float(line.split()[0]) for line in watchers.lines(data))

    async def open_all(count: int) -> list[Watcher]:
        found: list[Watcher] = []
        for first in range(0, count, _OPEN_AT_ONCE):
            some = range(first, min(first + _OPEN_AT_ONCE, count))
            found += await asyncio.gather(
                *(watchers.watch(server, f"{path}?tail=0", heard) for _ in some)
            )
        return found

    open_ = runner.run(open_all(_WARM_UP))
    _write(runner, server, writers, min(2.0, seconds))
    before = memory.shares(memory.workers(server))
    open_ += runner.run(open_all(viewers - _WARM_UP))
    waits_s.clear()
    watched: list[_Cost] = []
    meter.rounds(
        lambda: watched.append(_write(runner, server, writers, seconds)), waits_s.clear, count=1
    )
    after = memory.shares(memory.workers(server))
    assert waits_s
    meter.waits(waits_s)
    cost = watched[-1]
    each = (sum(after) - sum(before)) * 1024 / (viewers - _WARM_UP)
    meter.info["facts"] = {
        "viewers": f"{viewers:,}",
        "API without viewers": f"{alone.cores['api']} cores",
        "API with them": f"{cost.cores['api']} cores",
        "API, memory for each viewer": f"{each:.0f} KiB",
        "PostgreSQL without viewers": f"{alone.cores['postgres']} cores",
        "PostgreSQL with them": f"{cost.cores['postgres']} cores",
        "transactions without viewers": f"{alone.statements:.0f} a second",
        "transactions with them": f"{cost.statements:.0f} a second",
        "lines that arrived": f"{len(waits_s) / seconds:,.0f} a second",
    }
    for viewer in open_:
        viewer.close()
    writers.close()
    runner.run(tables.clear_queue(server))
