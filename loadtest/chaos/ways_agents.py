"""How faults are put into agents, and taken back. Each returns when it is over."""

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Mapping

import psutil

from client.client import Client
from client.errors import DwError
from loadtest.chaos import programs
from loadtest.chaos.limits import LEASE_S
from loadtest.chaos.machines import Agent
from loadtest.chaos.plan import Fault
from loadtest.chaos.programs import StuckError

_DRAIN_S = 90.0  # tasks take up to three leases, and other faults come between
_STOP_S = 30.0
_START_S = 30.0
_FRESH_S = 1.0  # from the start of an agent's process to its first claim, with some to spare
_JUMPS_S = (-86_400, -3_600, -60, -1, 0, 1, 60, 3_600, 86_400)


async def kill_guardian(agent: Agent, fault: Fault) -> None:
    """The process that was started: its worker stops at once."""
    await _kill(agent, agent.program.own()[:1], fault)


async def kill_worker(agent: Agent, fault: Fault) -> None:
    """What does the work: the guardian ends what it leaves."""
    await _kill(agent, _worker(agent), fault)


async def kill_agent(agent: Agent, fault: Fault) -> None:
    """Both at once: the next one ends what they leave."""
    await _kill(agent, agent.program.own(), fault)


def _worker(agent: Agent) -> list[psutil.Process]:
    own = agent.program.own()
    return own[1:] or own  # one that has just been started has none yet


async def _kill(agent: Agent, victims: list[psutil.Process], fault: Fault) -> None:
    program = agent.program
    program.rest_s = fault.lasts_s
    programs.kill(victims)
    await program.must("end after its processes were killed", program.down.wait(), _STOP_S)
    await program.must("start again", program.up.wait(), fault.lasts_s + _START_S)
    await asyncio.sleep(_FRESH_S)


async def stop_agent(agent: Agent, fault: Fault) -> None:
    """Guardian and worker. Their tasks go on, and nobody reads what they write."""
    await _stop(agent.program.own(), fault)


async def stop_worker(agent: Agent, fault: Fault) -> None:
    """The guardian has to do what cannot wait."""
    await _stop(_worker(agent), fault)


async def _stop(stopped: list[psutil.Process], fault: Fault) -> None:
    programs.send(stopped, signal.SIGSTOP)
    try:
        await asyncio.sleep(fault.lasts_s)
    finally:
        programs.send(stopped, signal.SIGCONT)


async def drain_agent(agent: Agent, fault: Fault) -> None:
    """As an operator does: it finishes what runs, and is started again."""
    agent.program.rest_s = fault.lasts_s
    agent.program.strike(signal.SIGTERM)
    await _drained(agent, agent.program.down.wait(), fault)


async def drain_agent_from_afar(agent: Agent, fault: Fault) -> None:
    """As a person does with `dw agents drain`."""
    agent.program.rest_s = fault.lasts_s
    async with Client(f"http://127.0.0.1:{agent.link.port}") as people:
        await _drained(agent, _ask_to_drain(people, agent), fault)


async def _ask_to_drain(people: Client, agent: Agent) -> None:
    """Ask until it ends: the wish is one to its session, which may die."""
    ended = agent.program.down
    while not ended.is_set():
        with contextlib.suppress(DwError):
            await people.drain(agent.name)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), LEASE_S)
            return


async def _drained(agent: Agent, ended: Awaitable[object], fault: Fault) -> None:
    program = agent.program
    await program.must("drain", ended, _DRAIN_S)
    if program.code:
        raise StuckError(program.name, f"ended a drain with exit code {program.code}")
    await program.must("start again", program.up.wait(), fault.lasts_s + _START_S)
    await asyncio.sleep(_FRESH_S)


async def fill_disk(agent: Agent, fault: Fault) -> None:
    """That of its state folder."""
    await asyncio.to_thread(agent.disk.fill)
    try:
        await asyncio.sleep(fault.lasts_s)
    finally:
        agent.disk.free()


async def set_clock(agent: Agent, fault: Fault) -> None:
    """Its wall clock jumps, forwards or back, or is set right; it stays so."""
    agent.set_clock(_JUMPS_S[fault.size % len(_JUMPS_S)])


WAYS: Mapping[str, Callable[[Agent, Fault], Awaitable[None]]] = {
    "agent's guardian killed": kill_guardian,
    "agent's worker killed": kill_worker,
    "agent killed": kill_agent,
    "agent killed for long": kill_agent,
    "agent's worker stopped": stop_worker,
    "agent stopped": stop_agent,
    "agent drained": drain_agent,
    "agent drained from afar": drain_agent_from_afar,
    "disk full": fill_disk,
    "clock jumped": set_clock,
}
