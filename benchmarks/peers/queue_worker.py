"""What the processes of queues in PostgreSQL have in common."""

import asyncio
from typing import Protocol

import uvloop

from benchmarks.peers.serve import serve, take_stdout


class QueueWorker(Protocol):
    """A worker, or who makes and fills the queue."""

    async def install(self) -> None:
        """Make the tables."""

    async def fill(self, count: int, /) -> None:
        """Add so many jobs."""

    async def open(self, number: int, /) -> None:
        """Connect; `number` is the setting of the peer that matters most."""

    async def run(self) -> int:
        """Work until the queue is empty; how many jobs were done."""

    async def close(self) -> None:
        """Hang up."""


def serve_queue(worker: QueueWorker) -> None:
    """Serve with a worker, on uvloop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        serve(
            take_stdout(),
            {
                "install": lambda: runner.run(worker.install()) or 0,
                "fill": lambda count: runner.run(worker.fill(int(count))) or 0,
                "open": lambda number: runner.run(worker.open(int(number))) or 0,
                "run": lambda: runner.run(worker.run()),
                "close": lambda: runner.run(worker.close()) or 0,
            },
        )
