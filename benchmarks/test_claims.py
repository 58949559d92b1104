"""Claims: how long one takes, and how many tasks a second change hands."""

import asyncio
from collections.abc import Iterator

import msgspec
import pytest

from benchmarks import limits, wire
from benchmarks.conftest import QUICK, Meter
from benchmarks.server import BenchServer
from benchmarks.wire import Connection
from schema.claims import ClaimReply, ClaimRequest
from schema.sessions import Beat, BeatReply, SessionOpen, SessionOpened
from schema.tasks import Submission, Submitted

_AT_ONCE = 5000
_TASK = Submission(command="echo hello")
_PULL = wire.post("/tasks/pull", b"")
_reply = msgspec.json.Decoder(ClaimReply)


class Fleet:
    """Clients on connections of their own, a session each."""

    def __init__(self, runner: asyncio.Runner, server: BenchServer) -> None:
        self._runner = runner
        self._port = server.port
        self.connections: list[Connection] = []
        self.sessions: list[str] = []

    def open(self, clients: int, *, sessions: bool) -> None:
        """Connect."""
        self._runner.run(self._open(clients, sessions=sessions))

    async def _open(self, clients: int, *, sessions: bool) -> None:
        for _ in range(clients):
            connection = await wire.connect(self._port)
            self.connections.append(connection)
            if sessions:
                asked = SessionOpen(agent="benchmark")
                opened = await connection.post("/sessions", asked, SessionOpened)
                self.sessions.append(opened.session)

    def submit(self, count: int) -> None:
        """Put tasks into the queue."""
        for first in range(0, count, _AT_ONCE):
            tasks = [_TASK] * min(_AT_ONCE, count - first)
            self._runner.run(self.connections[0].post("/tasks", tasks, list[Submitted]))
        for connection in self.connections:
            connection.waits_s.clear()

    def claim(self, slots: int, tasks: int) -> int:
        """All clients claim until each has its share; how many tasks were given."""
        return self._runner.run(self._claim(slots, tasks))

    async def _claim(self, slots: int, tasks: int) -> int:
        share = tasks // len(self.connections)
        given = await asyncio.gather(
            *(
                _claim_share(connection, session, slots, share)
                for connection, session in zip(self.connections, self.sessions, strict=True)
            )
        )
        return sum(given)

    def pull(self, tasks: int) -> None:
        """All clients pull tasks one by one, as agents of the original system do."""
        self._runner.run(self._pull(tasks // len(self.connections)))

    async def _pull(self, share: int) -> None:
        await asyncio.gather(*(_pull_share(each, share) for each in self.connections))

    def waits_s(self) -> list[float]:
        """How long the last round's requests took."""
        return [wait for connection in self.connections for wait in connection.waits_s]

    def close(self) -> None:
        """End the sessions, whose tasks nobody will run."""
        self._runner.run(self._close())

    async def _close(self) -> None:
        for connection, session in zip(self.connections, self.sessions, strict=False):
            await connection.post("/beats", Beat(session=session, closing=True), BeatReply)
        for connection in self.connections:
            connection.close()


async def _claim_share(connection: Connection, session: str, slots: int, share: int) -> int:
    given = 0
    while given < share:
        asked = ClaimRequest(session, min(slots, share - given))
        body = await connection.send(wire.post("/claims", msgspec.json.encode(asked)))
        given += len(_reply.decode(body).tasks)
    return given


async def _pull_share(connection: Connection, share: int) -> None:
    taken = 0
    while taken < share:
        taken += await connection.send(_PULL) != b"null"


@pytest.fixture
def fleet(runner: asyncio.Runner, server: BenchServer) -> Iterator[Fleet]:
    """Make a fleet that still has to connect."""
    one = Fleet(runner, server)
    yield one
    one.close()


def test_claim_by_one_client(meter: Meter, fleet: Fleet) -> None:
    """Latency of one claim of one task, nobody else there."""
    claims = meter.size(1000)
    fleet.open(1, sessions=True)
    fleet.submit(claims + 1)
    waits: list[float] = []

    def one() -> None:
        assert fleet.claim(1, 1) == 1

    def keep() -> None:
        waits.extend(fleet.waits_s())
        fleet.connections[0].waits_s.clear()

    meter.rounds(one, keep, count=claims)
    keep()
    meter.rate("claims", 1)
    meter.waits(waits)


@pytest.mark.parametrize(
    ("clients", "slots"),
    [(16, 1), (64, 1), (16, 16)],
    ids=["16 clients, 1 slot", "64 clients, 1 slot", "16 clients, 16 slots"],
)
def test_claims_by_many_clients(
    meter: Meter,
    fleet: Fleet,
    runner: asyncio.Runner,
    server: BenchServer,
    clients: int,
    slots: int,
) -> None:
    """Tasks a second over keep-alive connections, against one row a statement by pgbench."""
    tasks = meter.size(4000 if slots == 1 else 16_000) // clients * clients
    tasks = max(tasks, clients * slots)
    fleet.open(clients, sessions=True)
    meter.rounds(lambda: fleet.claim(slots, tasks), lambda: fleet.submit(tasks + clients * slots))
    meter.rate("tasks", tasks)
    meter.waits(fleet.waits_s())
    seconds = 1 if QUICK else 3
    limit = limits.claims_per_s(server, clients=16, rows=slots, seconds=seconds)
    meter.limit(f"pgbench, 16 clients, rows a statement: {slots}", runner.run(limit))


def test_compatible_pulls(meter: Meter, fleet: Fleet) -> None:
    """Tasks a second by 16 agents of the original system."""
    tasks = meter.size(4000) // 16 * 16
    fleet.open(16, sessions=False)
    meter.rounds(lambda: fleet.pull(tasks), lambda: fleet.submit(tasks + 16))
    meter.rate("tasks", tasks)
    meter.waits(fleet.waits_s())
