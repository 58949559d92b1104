"""A process of procrastinate, told what to do by `processes`.

As its documentation says: psycopg with an asynchronous pool, tasks that are coroutines, several at
a time in a worker, and one connection more than that, because the jobs are short; further
throughput comes from further processes. psycopg is the compiled one, the loop uvloop.
"""

import sys

from procrastinate import App, PsycopgConnector
from procrastinate.types import JSONDict

from benchmarks.peers.queue_worker import serve_queue

_AT_ONCE = 1000
_TASK = "nothing"


class Worker:
    """One worker."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._app = self._make_app(1)
        self._concurrency = 0
        self._done = 0

    def _make_app(self, connections: int) -> App:
        connector = PsycopgConnector(conninfo=self._dsn, min_size=connections, max_size=connections)
        app = App(connector=connector)
        app.task(name=_TASK)(self._do_nothing)
        return app

    async def _do_nothing(self, command: str) -> None:
        self._done += 1

    async def install(self) -> None:
        """Make the tables."""
        async with self._app.open_async():
            await self._app.schema_manager.apply_schema_async()

    async def fill(self, count: int) -> None:
        """Add so many jobs."""
        app = self._make_app(1)
        async with app.open_async():
            for first in range(0, count, _AT_ONCE):
                some = min(_AT_ONCE, count - first)
                jobs: list[JSONDict] = [{"command": "echo hello"}] * some
                await app.configure_task(_TASK).batch_defer_async(*jobs)

    async def open(self, concurrency: int) -> None:
        """Connect, to do so many jobs at a time."""
        self._concurrency = concurrency
        self._done = 0
        self._app = self._make_app(concurrency + 1)
        await self._app.open_async()

    async def run(self) -> int:
        """Work until the queue is empty; how many jobs were done."""
        await self._app.run_worker_async(
            concurrency=self._concurrency, wait=False, install_signal_handlers=False
        )
        return self._done

    async def close(self) -> None:
        """Hang up."""
        await self._app.close_async()


def main() -> None:
    """Serve; the database is the first argument."""
    serve_queue(Worker(sys.argv[1]))
