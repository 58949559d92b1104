"""How faults are put into API servers and the database. Each returns when it is over."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import psutil

from loadtest.chaos import programs
from loadtest.chaos.database import Database
from loadtest.chaos.limits import WORKERS
from loadtest.chaos.machines import Server
from loadtest.chaos.plan import Fault

_STOP_S = 30.0
_START_S = 30.0
_LOOK_S = 0.05


async def kill_api_worker(server: Server, fault: Fault) -> None:
    """One of its workers, which the main process replaces."""
    if workers := server.workers():
        victim = workers[fault.size % len(workers)]
        programs.kill([victim])
        await server.program.must("replace a worker", _replaced(server, victim), _START_S)
        await server.program.must("get ready", server.ready(), _START_S)


async def _replaced(server: Server, victim: psutil.Process) -> None:
    while len(workers := server.workers()) < WORKERS or victim in workers:
        await asyncio.sleep(_LOOK_S)


async def kill_api(server: Server, fault: Fault) -> None:
    """Its main process, whose workers end with it."""
    await _end_api(server, signal.SIGKILL, fault)


async def restart_api(server: Server, fault: Fault) -> None:
    """In order, as with a new release."""
    await _end_api(server, signal.SIGTERM, fault)


async def _end_api(server: Server, number: signal.Signals, fault: Fault) -> None:
    program = server.program
    program.rest_s = fault.lasts_s
    program.strike(number)
    await program.must(f"end after {number.name}", program.down.wait(), _STOP_S)
    await program.must("start again", program.up.wait(), fault.lasts_s + _START_S)
    await program.must("get ready", server.ready(), _START_S)


async def kill_database(database: Database, fault: Fault) -> None:
    """Its main process: the others end when they notice."""
    await _restart_database(database, signal.SIGKILL, fault)


async def stop_database(database: Database, fault: Fault) -> None:
    """All at once, without a last checkpoint."""
    await _restart_database(database, signal.SIGQUIT, fault)


async def _restart_database(database: Database, number: signal.Signals, fault: Fault) -> None:
    await database.strike(number)
    try:
        await asyncio.sleep(fault.lasts_s)
    finally:
        await asyncio.shield(database.start())


WAYS: Mapping[str, Callable[[Any, Fault], Awaitable[None]]] = {
    "API worker killed": kill_api_worker,
    "API killed": kill_api,
    "API restarted": restart_api,
    "PostgreSQL killed": kill_database,
    "PostgreSQL stopped at once": stop_database,
}
