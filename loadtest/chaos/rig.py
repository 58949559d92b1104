"""The system under test: its machines, as processes, and a proxy on every link between them.

people -> [link] -> servers <- [link] <- each agent
                       |
           each server: [link] -> PostgreSQL
"""

import asyncio
import itertools
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import psutil
from msgspec import Struct, field

from loadtest.chaos import database as databases
from loadtest.chaos import disks
from loadtest.chaos.database import Database
from loadtest.chaos.limits import SLOTS
from loadtest.chaos.machines import Agent, Server
from loadtest.chaos.programs import Ended, Program, free_port, kill, marked, zombies
from loadtest.chaos.proxy import Address, Proxy

_SERVERS = 2
_READY_S = 60.0
_END_S = 15.0
_ZOMBIE_S = 1.0
_LEFT_S = 3.0
_DISK_BYTES = 24 * 1024 * 1024


class Rig(Struct, eq=False):
    """Made by `running`."""

    mark: str
    folder: Path
    database: Database
    people: Proxy
    """Link of those who hand over tasks."""
    servers: list[Server] = field(default_factory=list)
    agents: list[Agent] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Of the API, for people."""
        return f"http://127.0.0.1:{self.people.port}"

    @property
    def journal(self) -> Path:
        """File in which tasks write down what they do."""
        return self.folder / "journal"

    @property
    def links(self) -> list[Proxy]:
        """All of them."""
        agents = [each.link for each in self.agents]
        return [*agents, *(each.link for each in self.servers), self.people]

    @property
    def programs(self) -> list[Program]:
        """All of them."""
        agents = [each.program for each in self.agents]
        return [*agents, *(each.program for each in self.servers)]

    async def ready(self) -> None:
        """Wait until every server answers; TimeoutError."""
        async with asyncio.timeout(_READY_S):
            for server in self.servers:
                await server.ready()

    async def heal(self) -> None:
        """End all weather, set all clocks right."""
        for link in self.links:
            link.heal()
            await link.accept()
        for agent in self.agents:
            agent.set_clock(0)

    async def zombies(self) -> list[str]:
        """Children of agents that have ended and that nobody waits for."""
        agents = [each.pid for agent in self.agents for each in agent.program.own()]
        first = set(zombies(agents))
        await asyncio.sleep(_ZOMBIE_S)
        return [_name(each) for each in first & set(zombies(agents))]

    async def left(self) -> list[str]:
        """Processes that are not the servers', when all agents have ended."""
        deadline = asyncio.get_running_loop().time() + _LEFT_S
        while True:
            servers = {each.pid for server in self.servers for each in server.program.tree()}
            left = [each for each in marked(self.mark) if each.pid not in servers]
            if not left or asyncio.get_running_loop().time() > deadline:
                return [_name(each) for each in left]
            await asyncio.sleep(0.1)

    async def kill_all(self) -> None:
        """Leave no process."""
        for program in self.programs:
            program.end(signal.SIGKILL)
        with suppress(TimeoutError):
            async with asyncio.timeout(_END_S):
                for program in self.programs:
                    await program.down.wait()
        kill(marked(self.mark))


@asynccontextmanager
async def running(folder: Path, mark: str, ended: Ended) -> AsyncIterator[Rig]:
    """Start everything in an empty folder; leave nothing running, whatever happens.

    `ended` hears of each program that ends.
    """
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(databases.running(folder / "database"))
        group = await stack.enter_async_context(asyncio.TaskGroup())
        ports = [free_port() for _ in range(_SERVERS)]
        turn = itertools.count()

        def balanced() -> list[Address]:
            """As behind a load balancer: the next one first, then the others."""
            first = next(turn) % len(ports)
            return [("127.0.0.1", port) for port in ports[first:] + ports[:first]]

        async def link(name: str, upstreams: Callable[[], Sequence[Address]]) -> Proxy:
            return await stack.enter_async_context(Proxy(name, free_port(), group, upstreams))

        rig = Rig(mark, folder, database, await link("people", balanced))
        for number, port in enumerate(ports, start=1):
            name = f"server-{number}"
            to_database = await link(name, lambda: [database.address])
            rig.servers.append(Server(name, port, to_database, mark, folder, ended))
        for number in range(len(SLOTS)):
            to_servers = await link(f"agent-{number + 1}", balanced)
            disk = stack.enter_context(disks.made(folder / to_servers.name, _DISK_BYTES))
            rig.agents.append(Agent(number, to_servers, disk, mark, folder, ended))
        stack.push_async_callback(rig.kill_all)
        for program in rig.programs:
            group.create_task(program.run())
        await rig.ready()
        yield rig


def _name(process: psutil.Process) -> str:
    with suppress(psutil.NoSuchProcess):
        return f"process {process.pid}: {' '.join(process.cmdline())[:200]}"
    return f"process {process.pid}"
