"""Uploads: how many log chunks a second are taken, and what part of a bare COPY that is.

*seed* is one line repeated to 512 KiB, *real* 512 KiB of varied lines (132 KB gzip), *small* 20
lines; small ones come 16 in a report, on the compatible route one in a request.
"""

import asyncio
import time
from collections.abc import Iterator

import asyncpg
import msgspec
import pytest
from msgspec import Struct

from benchmarks import limits, wire
from benchmarks.conftest import Meter
from benchmarks.server import BenchServer
from benchmarks.wire import Connection
from loadtest import payloads
from loadtest.payloads import Payload
from schema import marks
from schema.claims import ClaimReply, ClaimRequest, PulledTask
from schema.reports import LogChunk, Report, ReportReply
from schema.sessions import SessionOpen, SessionOpened
from schema.tasks import Submission, Submitted

_CLIENTS = 16
_LIMIT_S = 3.0
_HEAD = b"[ RUN      ] one line in front\n"
_PAYLOADS = {
    "seed": payloads.seed(512 * 1024),
    "real": payloads.real(512 * 1024),
    "small": payloads.few_lines(20),
}
_reply = msgspec.json.Decoder(ReportReply)


class Uploader(Struct):
    """One agent with one task, whose log grows and grows."""

    connection: Connection
    task: int
    session: str = ""
    lease: str = ""
    sent: int = 0
    """Chunks."""

    async def report(self, payload: Payload, content: bytes, chunks: int, requests: int) -> None:
        """Send reports with some chunks each."""
        for _ in range(requests):
            mark = marks.encode([(0, time.time_ns() // 1000)])
            report = Report(
                session=self.session,
                chunks=tuple(
                    LogChunk(
                        lease=self.lease, stream="stdout", content=content, marks=mark,
                        offset=number * (len(_HEAD) + len(payload.data)),
                    )
                    for number in range(self.sent, self.sent + chunks)
                ),
            )  # fmt: skip
            self.sent += chunks
            request = wire.post("/reports", msgspec.msgpack.encode(report), wire.MSGPACK)
            verdicts = _reply.decode(await self.connection.send(request)).chunks
            assert all(each.verdict == "ok" for each in verdicts), verdicts

    async def post_logs(self, payload: Payload, requests: int) -> None:
        """Send batches as the original system's agent does: JSON in gzip."""
        for _ in range(requests):
            body = payloads.compatible_body("stdout", self.sent, _HEAD, payload)
            self.sent += 1
            path = f"/tasks/{self.task}/logs"
            await self.connection.send(wire.post(path, body, encoding="gzip"))


class Uploaders:
    """All of them."""

    def __init__(self, runner: asyncio.Runner, server: BenchServer) -> None:
        self._runner = runner
        self._server = server
        self.all: list[Uploader] = []

    def open(self, *, compatible: bool) -> None:
        """Connect, and take a task each."""
        self._runner.run(self._open(compatible=compatible))

    async def _open(self, *, compatible: bool) -> None:
        for _ in range(_CLIENTS):
            connection = await wire.connect(self._server.port)
            await connection.post("/tasks", Submission(command="echo hello"), Submitted)
            if compatible:
                pulled = await connection.post("/tasks/pull", None, PulledTask)
                self.all.append(Uploader(connection, pulled.id))
            else:
                asked = SessionOpen(agent="benchmark")
                session = (await connection.post("/sessions", asked, SessionOpened)).session
                claimed = await connection.post("/claims", ClaimRequest(session, 1, 5), ClaimReply)
                task = claimed.tasks[0]
                self.all.append(Uploader(connection, task.id, session, task.lease))

    def report(self, payload: Payload, content: bytes, chunks: int, requests: int) -> None:
        """Each sends its share of the requests."""
        share = requests // _CLIENTS
        self._runner.run(_all(each.report(payload, content, chunks, share) for each in self.all))

    def post_logs(self, payload: Payload, requests: int) -> None:
        """Each sends its share of the batches."""
        self._runner.run(_all(each.post_logs(payload, requests // _CLIENTS) for each in self.all))

    def forget_waits(self) -> None:
        """Begin a round."""
        for each in self.all:
            each.connection.waits_s.clear()

    def waits_s(self) -> list[float]:
        """How long the last round's requests took."""
        return [wait for each in self.all for wait in each.connection.waits_s]

    def check_stored(self) -> None:
        """All that was sent is in the table: a benchmark of lost chunks is none."""
        stored = self._runner.run(_count(self._server, [each.task for each in self.all]))
        assert stored == sum(each.sent for each in self.all)

    def close(self) -> None:
        """Hang up, and make room on the disk."""
        self._runner.run(self._close())

    async def _close(self) -> None:
        for each in self.all:
            each.connection.close()
        connection = await asyncpg.connect(self._server.dsn())
        try:
            await connection.execute("TRUNCATE log_chunks")
            await connection.execute("CHECKPOINT")
        finally:
            await connection.close()


async def _all(works: "Iterator[asyncio._CoroutineLike[None]]") -> None:
    await asyncio.gather(*works)


async def _count(server: BenchServer, tasks: list[int]) -> int:
    connection = await asyncpg.connect(server.dsn())
    try:
        found: int = await connection.fetchval(
            "SELECT count(*) FROM log_chunks WHERE task = ANY($1)", tasks
        )
        return found
    finally:
        await connection.close()


@pytest.fixture
def uploaders(runner: asyncio.Runner, server: BenchServer) -> Iterator[Uploaders]:
    """Make agents that still have to connect."""
    some = Uploaders(runner, server)
    yield some
    some.close()


@pytest.mark.parametrize(
    ("name", "chunks", "requests"),
    [("seed", 1, 1600), ("real", 1, 480), ("small", 16, 640)],
    ids=_PAYLOADS.keys(),
)
def test_reports(
    meter: Meter,
    uploaders: Uploaders,
    runner: asyncio.Runner,
    server: BenchServer,
    name: str,
    chunks: int,
    requests: int,
) -> None:
    """Chunks a second through /reports, acknowledged, so committed."""
    payload = _PAYLOADS[name]
    content = payloads.member(_HEAD, payload)
    requests = meter.size(requests) // _CLIENTS * _CLIENTS
    uploaders.open(compatible=False)
    meter.rounds(
        lambda: uploaders.report(payload, content, chunks, requests), uploaders.forget_waits
    )
    rate = meter.rate("chunks", requests * chunks)
    meter.info["log_mb_per_s"] = round(rate * (len(_HEAD) + len(payload.data)) / 1e6, 1)
    meter.waits(uploaders.waits_s())
    uploaders.check_stored()
    limit = limits.copies_per_s(server, payload, content, meter.seconds(_LIMIT_S))
    meter.limit("COPY of the same members, 2 connections", runner.run(limit))


@pytest.mark.parametrize(
    ("name", "requests"),
    [("seed", 640), ("real", 320), ("small", 1600)],
    ids=_PAYLOADS.keys(),
)
def test_compatible_logs(
    meter: Meter,
    uploaders: Uploaders,
    runner: asyncio.Runner,
    server: BenchServer,
    name: str,
    requests: int,
) -> None:
    """Batches a second through the original system's route: gzipped JSON, one in a request."""
    payload = _PAYLOADS[name]
    requests = meter.size(requests) // _CLIENTS * _CLIENTS
    uploaders.open(compatible=True)
    meter.rounds(lambda: uploaders.post_logs(payload, requests), uploaders.forget_waits)
    rate = meter.rate("chunks", requests)
    meter.info["log_mb_per_s"] = round(rate * (len(_HEAD) + len(payload.data)) / 1e6, 1)
    meter.waits(uploaders.waits_s())
    uploaders.check_stored()
    content = payloads.member(_HEAD, payload)
    limit = limits.copies_per_s(server, payload, content, meter.seconds(_LIMIT_S))
    meter.limit("COPY of the same members, 2 connections", runner.run(limit))
