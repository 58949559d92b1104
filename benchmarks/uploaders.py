"""Agents with one task each, whose log grows and grows."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg
import msgspec
from isal import isal_zlib
from msgspec import Struct, field

from api.store import Connection as Database
from benchmarks import filling, wire
from benchmarks.server import BenchServer
from benchmarks.sessions import close_session, open_session
from benchmarks.wire import Connection
from loadtest import payloads
from loadtest.payloads import Payload
from schema import marks
from schema.claims import ClaimReply, ClaimRequest, PulledTask
from schema.marks import Mark
from schema.reports import LogChunk, Report, ReportReply, Result, StreamTotal
from schema.tasks import Stream, Submission, Submitted

HEAD = b"[ RUN      ] one line in front\n"
_reply = msgspec.json.Decoder(ReportReply)

Marks = Callable[[Stream, int, int], Iterable[Mark]]
"""When the pieces of a chunk were read: of a stream, its chunk from 0, of so many bytes."""


def one_piece(_stream: Stream, _number: int, _size: int) -> Iterable[Mark]:
    """All of it was read just now."""
    return [(0, time.time_ns() // 1000)]


class Uploader(Struct):
    """One agent. `content` is the payload's gzip member, HEAD in front."""

    connection: Connection
    task: int
    session: str = ""
    lease: str = ""
    sent: dict[Stream, int] = field(default_factory=lambda: {"stdout": 0, "stderr": 0})
    """Chunks of each stream, acknowledged or under way."""
    written: dict[Stream, StreamTotal] = field(
        default_factory=lambda: {"stdout": StreamTotal(0, 0), "stderr": StreamTotal(0, 0)}
    )
    """What is in them; the compatible route does not count any."""

    async def report(
        self,
        payload: Payload,
        content: bytes,
        chunks: int,
        *,
        stream: Stream = "stdout",
        times: Marks = one_piece,
    ) -> None:
        """Send one report with some chunks of a stream."""
        size = len(HEAD) + len(payload.data)
        first, offset = self.sent[stream], self.written[stream].bytes
        self.sent[stream] += chunks
        crc = self.written[stream].crc
        for _ in range(chunks):
            crc = isal_zlib.crc32_combine(crc, int.from_bytes(content[-8:-4], "little"), size)
        self.written[stream] = StreamTotal(offset + chunks * size, crc)
        report = Report(
            session=self.session,
            chunks=tuple(
                LogChunk(
                    lease=self.lease, stream=stream, content=content,
                    offset=offset + number * size,
                    marks=marks.encode(times(stream, first + number, size)),
                )
                for number in range(chunks)
            ),
        )  # fmt: skip
        verdicts = (await self._report(report)).chunks
        assert all(each.verdict == "ok" for each in verdicts), verdicts

    async def finish(self) -> None:
        """Say that the task succeeded, and how long its log is."""
        result = Result(
            lease=self.lease, reason="exit", exit_code=0,
            stdout=self.written["stdout"], stderr=self.written["stderr"],
        )  # fmt: skip
        verdicts = (await self._report(Report(session=self.session, results=(result,)))).results
        assert verdicts[0].verdict == "ok", verdicts

    async def _report(self, report: Report) -> ReportReply:
        request = wire.post("/reports", msgspec.msgpack.encode(report), wire.MSGPACK)
        return _reply.decode(await self.connection.send(request))

    async def post_logs(self, payload: Payload) -> None:
        """Send a batch as the original system's agent does: JSON in gzip."""
        body = payloads.compatible_body("stdout", self.sent["stdout"], HEAD, payload)
        self.sent["stdout"] += 1
        path = f"/tasks/{self.task}/logs"
        await self.connection.send(wire.post(path, body, encoding="gzip"))


class Uploaders:
    """All of them. Made by `connected`."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self._database: Database | None = None
        self.all: list[Uploader] = []

    async def connect(self, server: BenchServer, clients: int, *, compatible: bool) -> None:
        """Connect, and take a task each."""
        self._database = await asyncpg.connect(server.dsn())
        for _ in range(clients):
            connection = await wire.connect(server.port)
            await connection.post("/tasks", Submission(command="echo hello"), Submitted)
            if compatible:
                pulled = await connection.post("/tasks/pull", None, PulledTask)
                self.all.append(Uploader(connection, pulled.id))
            else:
                session = await open_session(connection)
                claimed = await connection.post("/claims", ClaimRequest(session, 1, 5), ClaimReply)
                task = claimed.tasks[0]
                self.all.append(Uploader(connection, task.id, session, task.lease))

    def repeat(
        self, requests: int, request: Callable[[Uploader], Coroutine[Any, Any, None]]
    ) -> None:
        """All send until so many requests are answered, each one after another."""
        left = iter(range(requests))

        async def send_some(one: Uploader) -> None:
            for _ in left:
                await request(one)

        async def send_all() -> None:
            await asyncio.gather(*map(send_some, self.all))

        self._runner.run(send_all())

    def forget_waits(self) -> None:
        """Begin a round."""
        for each in self.all:
            each.connection.waits_s.clear()

    def waits_s(self) -> list[float]:
        """How long the last round's requests took."""
        return [wait for each in self.all for wait in each.connection.waits_s]

    def check_stored(self) -> None:
        """All that was sent is in the table: a benchmark of lost chunks is none."""
        stored = self._runner.run(self._count())
        assert stored == sum(sum(each.sent.values()) for each in self.all)

    async def _count(self) -> int:
        assert self._database is not None
        tasks = [each.task for each in self.all]
        found: int = await self._database.fetchval(
            "SELECT count(*) FROM log_chunks WHERE task = ANY($1)", tasks
        )
        return found

    async def close(self) -> None:
        """Make room on the disk, end the sessions, hang up."""
        if self._database is not None:
            await filling.clear(self._database)
            await self._database.close()
        for each in self.all:
            if each.session:
                await close_session(each.connection, each.session)
            each.connection.close()


@contextmanager
def connected(
    runner: asyncio.Runner, server: BenchServer, clients: int, *, compatible: bool
) -> Iterator[Uploaders]:
    """Agents of a server; what is in its tables in the end is cleared away."""
    some = Uploaders(runner)
    try:
        runner.run(some.connect(server, clients, compatible=compatible))
        yield some
    finally:
        runner.run(some.close())
