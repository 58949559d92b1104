"""Claims: how long one takes, and how many tasks a second change hands.

Beside it what pgbench claims in the same run, over a queue as long and for about as many tasks.
"""

import asyncio

import pytest

from benchmarks import fleet as fleets
from benchmarks import limits
from benchmarks.conftest import QUICK, Meter
from benchmarks.server import BenchServer

_PENDING = 2_000 if QUICK else 100_000
_ROUNDS = 5
_PGBENCH_CLIENTS = 16
"""The server has some 40 connections, of which the API takes 20."""


def _limit(
    meter: Meter,
    runner: asyncio.Runner,
    server: BenchServer,
    *,
    clients: int,
    rows: int,
    tasks: int,
) -> None:
    limit = limits.claims_per_s(server, clients=clients, rows=rows, tasks=tasks, pending=_PENDING)
    many = "1 client" if clients == 1 else f"{clients} clients"
    meter.limit(f"pgbench, {many}, rows a statement: {rows}", runner.run(limit))


def test_claim_by_one_client(meter: Meter, runner: asyncio.Runner, server: BenchServer) -> None:
    """Latency of one claim of one task, nobody else there."""
    claims = meter.size(1000)
    waits: list[float] = []
    with fleets.connected(runner, server, 1, sessions=True) as fleet:
        fleet.fill(_PENDING)

        def keep() -> None:
            waits.extend(fleet.waits_s())
            fleet.forget_waits()

        meter.rounds(lambda: fleet.claim(1, 1), keep, count=claims)
        keep()
    meter.rate("claims", 1)
    meter.info["per_s"] = round(claims / sum(meter.rounds_s()))  # a mean, as pgbench's
    meter.waits(waits)
    _limit(meter, runner, server, clients=1, rows=1, tasks=claims)


@pytest.mark.parametrize(
    ("clients", "slots"),
    [(16, 1), (64, 1), (256, 1), (16, 16)],
    ids=["16 clients, 1 slot", "64 clients, 1 slot", "256 clients, 1 slot", "16 clients, 16 slots"],
)
def test_claims_by_many_clients(
    meter: Meter, runner: asyncio.Runner, server: BenchServer, clients: int, slots: int
) -> None:
    """Tasks a second over keep-alive connections.

    pgbench's statement is no upper bound: requests that share one may do more.
    """
    tasks = meter.size(max(4000, 32 * clients) if slots == 1 else 16_000)
    with fleets.connected(runner, server, clients, sessions=True) as fleet:
        fleet.fill(_PENDING)
        meter.rounds(lambda: fleet.claim(slots, tasks), lambda: fleet.refill(tasks), _ROUNDS)
        waits = fleet.waits_s()
    meter.rate("tasks", tasks)
    meter.waits(waits)
    _limit(meter, runner, server, clients=_PGBENCH_CLIENTS, rows=slots, tasks=tasks * _ROUNDS)


def test_compatible_pulls(meter: Meter, runner: asyncio.Runner, server: BenchServer) -> None:
    """Tasks a second by 64 legacy agents, which take one at a time."""
    tasks = meter.size(8000)
    with fleets.connected(runner, server, 64, sessions=False) as fleet:
        fleet.fill(_PENDING)
        meter.rounds(lambda: fleet.pull(tasks), lambda: fleet.refill(tasks), _ROUNDS)
        waits = fleet.waits_s()
    meter.rate("tasks", tasks)
    meter.waits(waits)
    _limit(meter, runner, server, clients=_PGBENCH_CLIENTS, rows=1, tasks=tasks * _ROUNDS)
