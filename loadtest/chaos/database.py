"""The campaign's PostgreSQL: the embedded one, on the disk, with fsync, killed and started by us.

`api.postgres.EmbeddedPostgres` would start it again by itself, each time after a longer pause. The
kernel ties its life to the thread that forked it: that one lives as long as the campaign.
"""

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

from api.pgfolder import SOCKET_NAME, FolderLock
from api.pgserver import Server

_CONNECTIONS = 200


class Database:
    """Made by `running`."""

    def __init__(self, folder: Path, thread: ThreadPoolExecutor) -> None:
        self._thread = thread
        self._stopping = threading.Event()
        self._server = Server(
            folder, durable=True, max_connections=_CONNECTIONS, stopping=self._stopping
        )
        self.address = str(self._server.sockets / SOCKET_NAME)
        """Of its unix socket."""

    async def make(self) -> None:
        """Make its folder."""
        await self._in_thread(self._server.make)

    async def start(self) -> None:
        """Start it, after whatever ended it, and wait until it answers."""
        await self._in_thread(self._server.launch)

    async def strike(self, number: signal.Signals) -> None:
        """SIGQUIT (stop at once) or SIGKILL to the main process; wait until that has ended."""
        process = self._server.process
        assert process is not None, "it runs, or is being started again"
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)
        await self._in_thread(process.wait)

    async def stop(self) -> None:
        """Shut it down."""
        self._stopping.set()
        await self._in_thread(self._server.shut_down)
        self._server.remove_sockets()

    async def _in_thread(self, what: Callable[[], object]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, what)


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Database]:
    """Start it on a new folder; stop it in the end."""
    folder.mkdir(parents=True)
    lock = FolderLock(folder)
    with ThreadPoolExecutor(1, "postgres") as thread:
        database = Database(folder.resolve(), thread)
        try:
            await database.make()
            await database.start()
            yield database
        finally:
            await asyncio.shield(database.stop())
            lock.release()
