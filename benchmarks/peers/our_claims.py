"""Ours without agents: clients that claim tasks and report them done, on keep-alive connections."""

import asyncio
from collections.abc import Mapping, Sequence

import msgspec

from benchmarks import wire
from benchmarks.peers import statements
from benchmarks.server import BenchServer
from benchmarks.wire import Connection
from schema.claims import ClaimReply, ClaimRequest
from schema.reports import Report, ReportReply, Result
from schema.sessions import Beat, BeatReply, SessionOpen, SessionOpened
from schema.tasks import Submission, Submitted

_CLIENTS = 4
_SUBMITTED_AT_ONCE = 5000
_TASK = Submission(command="echo hello")
_claimed = msgspec.json.Decoder(ClaimReply)
_reported = msgspec.json.Decoder(ReportReply)


class Claims:
    """A `comparison.System`."""

    pids: Sequence[int] = ()
    facts: Mapping[str, str] = {
        "Set up": f"default settings, {_CLIENTS} clients, a connection and a session each",
        "Done tasks": "stay in the table, also those of earlier rounds; a report for each claim",
    }

    def __init__(
        self, runner: asyncio.Runner, server: BenchServer, *, at_once: int, tasks: int
    ) -> None:
        self.name = f"distributed-worker, {at_once:,} at a time, {_CLIENTS} clients"
        self.tasks = tasks
        self._runner = runner
        self._server = server
        self._at_once = at_once
        self._clients: list[tuple[Connection, str]] = []
        self._done = 0

    def prepare(self) -> None:
        """Submit the tasks, open the sessions."""
        self._runner.run(self._prepare())

    async def _prepare(self) -> None:
        self._done = 0
        self._clients = [await _client(self._server.port) for _ in range(_CLIENTS)]
        connection, _ = self._clients[0]
        for first in range(0, self.tasks, _SUBMITTED_AT_ONCE):
            tasks = [_TASK] * min(_SUBMITTED_AT_ONCE, self.tasks - first)
            await connection.post("/tasks", tasks, list[Submitted])
        await statements.value(self._server.dsn(), "ANALYZE tasks")
        await statements.value(self._server.dsn(), "CHECKPOINT")

    def run(self) -> None:
        """Claim and report until all are done."""
        self._runner.run(self._run())

    async def _run(self) -> None:
        await asyncio.gather(*(self._work(*each) for each in self._clients))

    async def _work(self, connection: Connection, session: str) -> None:
        claim = wire.post("/claims", msgspec.json.encode(ClaimRequest(session, self._at_once)))
        while self._done < self.tasks:
            claimed = _claimed.decode(await connection.send(claim)).tasks
            results = tuple(
                Result(lease=task.lease, reason="exit", exit_code=0) for task in claimed
            )
            if results:
                body = msgspec.msgpack.encode(Report(session=session, results=results))
                answer = await connection.send(wire.post("/reports", body, wire.MSGPACK))
                verdicts = _reported.decode(answer).results
                self._done += sum(each.verdict == "ok" for each in verdicts)

    def finish(self) -> None:
        """End the sessions; all must be done."""
        self._runner.run(self._finish())
        assert self._done == self.tasks, f"{self._done} of {self.tasks} tasks are done"

    async def _finish(self) -> None:
        for connection, session in self._clients:
            await connection.post("/beats", Beat(session=session, closing=True), BeatReply)
            connection.close()


async def _client(port: int) -> tuple[Connection, str]:
    connection = await wire.connect(port)
    opened = await connection.post("/sessions", SessionOpen(agent="benchmark"), SessionOpened)
    return connection, opened.session
