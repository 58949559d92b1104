"""Clients that take tasks as fast as they can, each over a connection of its own."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
import msgspec

from api.store import Connection as Database
from benchmarks import filling, wire
from benchmarks.server import BenchServer
from benchmarks.sessions import close_session, open_session
from benchmarks.wire import Connection
from schema.claims import ClaimReply, ClaimRequest
from schema.tasks import Submission, Submitted

_TASK = Submission(command="echo hello")
_PULL = wire.post("/tasks/pull", b"")
_reply = msgspec.json.Decoder(ClaimReply)


class Fleet:
    """Made by `connected`."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self.runner = runner
        self.connections: list[Connection] = []
        self.sessions: list[str] = []
        """One for each connection; none where they are legacy agents."""
        self._database: Database | None = None
        self._like = 0  # a task that came through the API
        self._left = 0  # tasks that nobody was given or asked for in this round

    async def connect(self, server: BenchServer, clients: int, *, sessions: bool) -> None:
        """Connect all, and put a first task into the queue."""
        self._database = await asyncpg.connect(server.dsn())
        for _ in range(clients):
            connection = await wire.connect(server.port)
            self.connections.append(connection)
            if sessions:
                self.sessions.append(await open_session(connection))
        self._like = (await self.connections[0].post("/tasks", _TASK, Submitted)).id

    def fill(self, tasks: int) -> None:
        """Put many tasks into the queue, and let the database come to rest."""
        self.refill(tasks)
        self.runner.run(self._settle())

    async def _settle(self) -> None:
        assert self._database is not None
        await filling.settle(self._database)

    def refill(self, tasks: int) -> None:
        """Begin a round: replace what the last one took."""
        self.runner.run(self._refill(tasks))
        self.forget_waits()

    async def _refill(self, tasks: int) -> None:
        assert self._database is not None
        await filling.queue_like(self._database, self._like, tasks)

    def claim(self, slots: int, tasks: int) -> None:
        """All clients claim until so many tasks are given.

        There are no shares: the kernel deals connections to the API's workers unevenly, and a round
        would end with one worker idle.
        """
        self._left = tasks
        self.runner.run(self._claim_all(slots))

    async def _claim_all(self, slots: int) -> None:
        pairs = zip(self.connections, self.sessions, strict=True)
        await asyncio.gather(*(self._claim(*pair, slots) for pair in pairs))

    async def _claim(self, connection: Connection, session: str, slots: int) -> None:
        while self._left:
            wanted = min(slots, self._left)
            self._left -= wanted
            asked = msgspec.json.encode(ClaimRequest(session, wanted))
            body = await connection.send(wire.post("/claims", asked))
            self._left += wanted - len(_reply.decode(body).tasks)

    def pull(self, tasks: int) -> None:
        """All clients pull tasks one by one, as legacy agents do."""
        self._left = tasks
        self.runner.run(self._pull_all())

    async def _pull_all(self) -> None:
        await asyncio.gather(*map(self._pull, self.connections))

    async def _pull(self, connection: Connection) -> None:
        while self._left:
            self._left -= 1
            if await connection.send(_PULL) == b"null":
                self._left += 1

    def forget_waits(self) -> None:
        """Of requests so far."""
        for connection in self.connections:
            connection.waits_s.clear()

    def waits_s(self) -> list[float]:
        """How long the last round's requests took."""
        return [wait for connection in self.connections for wait in connection.waits_s]

    async def close(self) -> None:
        """Clear the tables and end the sessions."""
        if self._database is not None:
            await filling.clear(self._database)
            await self._database.close()
        for connection, session in zip(self.connections, self.sessions, strict=False):
            await close_session(connection, session)
        for connection in self.connections:
            connection.close()


@contextmanager
def connected(
    runner: asyncio.Runner, server: BenchServer, clients: int, *, sessions: bool
) -> Iterator[Fleet]:
    """Clients of a server; what is in its tables in the end is cleared away."""
    fleet = Fleet(runner)
    try:
        runner.run(fleet.connect(server, clients, sessions=sessions))
        yield fleet
    finally:
        runner.run(fleet.close())
