"""Parked agents: what ten thousand that wait for a task cost, and how soon one of them has it.

Each has one connection, on which a claim waits for 20 s and is sent again when it is answered. A
real agent parks a beat on a second one.
"""

import asyncio
import resource
import time
from collections.abc import Iterator

import asyncpg
import msgspec
import pytest

from benchmarks import filling, memory, usage, wire
from benchmarks import server as servers
from benchmarks.conftest import QUICK, Meter
from benchmarks.server import BenchServer
from benchmarks.sessions import open_session
from benchmarks.wire import Connection
from schema.claims import ClaimReply, ClaimRequest
from schema.tasks import Submission, Submitted

_AGENTS = 100 if QUICK else 10_000
_WAIT_S = 20.0
_IDLE_S = 0.5 if QUICK else 20.0
_TASKS = 50
_OPEN_AT_ONCE = 50
_WARM_UP = 50  # after them the API has opened all of its connections to PostgreSQL
_FILES = _AGENTS + 500
_TASK = Submission(command="echo hello")
_reply = msgspec.json.Decoder(ClaimReply)


class Parked:
    """Agents that wait."""

    def __init__(self, server: BenchServer) -> None:
        self.given_at: asyncio.Queue[float] = asyncio.Queue()
        """When an agent had a task."""
        self.waiting: list[asyncio.Task[None]] = []
        self._server = server
        self._connections: list[Connection] = []

    async def open(self, agents: int) -> None:
        """Connect so many more, and let them wait."""
        numbers = range(len(self.waiting), len(self.waiting) + agents)
        for first in numbers[::_OPEN_AT_ONCE]:
            await asyncio.gather(*map(self._open, range(first, first + _OPEN_AT_ONCE)))

    async def _open(self, number: int) -> None:
        connection = await wire.connect(self._server.port)
        self._connections.append(connection)
        session = await open_session(connection)
        # Answered over all of the 20 s from the beginning, as agents are that started some time.
        first_wait_s = _WAIT_S * number / _AGENTS
        waiting = asyncio.create_task(self._wait(connection, session, first_wait_s))
        self.waiting.append(waiting)

    async def _wait(self, connection: Connection, session: str, wait_s: float) -> None:
        while True:
            asked = msgspec.json.encode(ClaimRequest(session, wait=wait_s))
            if _reply.decode(await connection.send(wire.post("/claims", asked))).tasks:
                self.given_at.put_nowait(time.perf_counter())
            wait_s = _WAIT_S

    async def close(self) -> None:
        """Hang up."""
        for waiting in self.waiting:
            waiting.cancel()
        for connection in self._connections:
            connection.close()
        database = await asyncpg.connect(self._server.dsn())
        await filling.clear(database)
        await database.close()


@pytest.fixture
def server(server: BenchServer) -> Iterator[BenchServer]:
    """Start one for this alone: its memory is counted."""
    if QUICK:
        yield server
        return
    with servers.start() as own:
        yield own


@pytest.fixture
def _many_files() -> Iterator[None]:
    """Let this process have a socket for each agent."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < _FILES:
        pytest.skip(f"needs {_FILES} open files; this process may have {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, _FILES), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def parked(runner: asyncio.Runner, server: BenchServer) -> Iterator[Parked]:
    """Make agents that still have to connect."""
    some = Parked(server)
    yield some
    runner.run(some.close())


def _per_agent(before: list[float], after: list[float]) -> str:
    return f"{(sum(after) - sum(before)) * 1024 / (_AGENTS - _WARM_UP):.1f} KiB"


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("_many_files")
def test_parked_agents(
    meter: Meter, runner: asyncio.Runner, server: BenchServer, parked: Parked
) -> None:
    """From the submission of a task until an agent has it, while all the others wait."""
    runner.run(parked.open(_WARM_UP))
    api = memory.shares(memory.workers(server))
    postgres = memory.shares(memory.postgres(server))
    runner.run(parked.open(_AGENTS - _WARM_UP))
    before = usage.count({"api": server.pid})
    runner.run(asyncio.sleep(_IDLE_S))
    idle = usage.count({"api": server.pid}).minus(before).cores()
    api_then = memory.shares(memory.workers(server))
    postgres_then = memory.shares(memory.postgres(server))
    submitter = runner.run(wire.connect(server.port))
    waits: list[float] = []

    async def hand_over() -> None:
        start = time.perf_counter()
        await submitter.post("/tasks", _TASK, Submitted)
        waits.append(await parked.given_at.get() - start)

    meter.rounds(lambda: runner.run(hand_over()), lambda: None, count=_TASKS)
    assert not any(waiting.done() for waiting in parked.waiting), "an agent lost its connection"
    submitter.close()
    meter.rate("tasks", 1)
    meter.waits(waits)
    meter.info["facts"] = {
        "agents that wait": f"{_AGENTS:,}",
        "each API worker": memory.text(api_then),
        "API, for each agent": _per_agent(api, api_then),
        "PostgreSQL, for each agent": _per_agent(postgres, postgres_then),
        "API while they wait": f"{idle['api']} cores",
        "PostgreSQL while they wait": f"{idle['postgres']} cores",
    }
