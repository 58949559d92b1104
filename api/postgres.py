"""An embedded PostgreSQL, for those who have none: started, watched, started again, stopped.

    postgres = EmbeddedPostgres(Path(".data"))
    dsn = postgres.start()
    ...
    postgres.stop()

It listens on a unix socket only, in a folder that only its user may enter, and asks for no
password. ``start`` raises PostgresStartError; later trouble is logged, and the start tried again.
"""

import logging
import os
import select
import threading
import time
import urllib.parse
from pathlib import Path

from api.pgcommand import PostgresStartError, passage_capability
from api.pgfolder import FolderLock
from api.pgserver import Server

__all__ = ["EmbeddedPostgres", "PostgresStartError"]

_log = logging.getLogger(__name__)

_BACKOFF_S = (0.1, 30.0)  # first and longest wait before a restart
_CALM_S = 60.0  # PostgreSQL ran that long: the next wait is the first again
_LOG_CHECK_S = 60.0


class EmbeddedPostgres:
    """PostgreSQL 18 on ``data_dir``/postgres, one per folder, as nobody if we are root.

    One thread starts it and lives as long as it should: the kernel ties PostgreSQL's life to the
    thread that forked it, so that a kill -9 of this process shuts PostgreSQL down too.
    ``durable=False`` is for tests: what was committed survives any kill, but not a power cut.
    """

    def __init__(self, data_dir: Path, *, durable: bool = True, max_connections: int = 100) -> None:
        self._data_dir = data_dir
        self._durable = durable
        self._max_connections = max_connections
        self._stopping = threading.Event()
        self._settled = threading.Event()
        self._error: Exception | None = None
        self._thread: threading.Thread | None = None
        self._server: Server | None = None
        self._wake = (-1, -1)  # a pipe: the watching thread sleeps on it and on PostgreSQL's end

    @property
    def pid(self) -> int | None:
        """Process id of the running PostgreSQL, which changes when it is started again."""
        process = self._server.process if self._server else None
        return process.pid if process else None

    def start(self) -> str:
        """Start, as long as that may take (recovery), and return a DSN for asyncpg and libpq."""
        assert self._thread is None, "started already"
        try:
            folder = _made(self._data_dir)
            lock = FolderLock(folder)
        except OSError as error:
            raise self._unusable(error) from error
        self._stopping.clear()
        self._settled.clear()
        self._error = None
        self._wake = os.pipe()
        self._thread = threading.Thread(
            target=self._run, args=(folder, lock), name="postgres", daemon=True
        )
        self._thread.start()
        try:
            self._settled.wait()
        except BaseException:  # Ctrl-C during a long recovery
            self.stop()
            raise
        if self._error is not None:
            self.stop()
            raise self._error
        assert self._server is not None
        host = urllib.parse.quote(str(self._server.sockets), safe="")
        return f"postgresql://postgres@/postgres?host={host}"

    def stop(self) -> None:
        """Shut down: sessions end, what they committed is on the disk. Again does nothing."""
        if self._thread is None:
            return
        self._stopping.set()
        os.write(self._wake[1], b"x")
        self._thread.join()
        self._thread = None
        for end in self._wake:
            os.close(end)

    def _run(self, folder: Path, lock: FolderLock) -> None:
        """Own PostgreSQL as long as it is wanted. Only this thread forks it and waits for it."""
        try:
            server = self._server = Server(
                folder,
                durable=self._durable,
                max_connections=self._max_connections,
                stopping=self._stopping,
            )
            try:
                server.make()
                server.launch()
                self._settled.set()
                self._watch(server)
            finally:
                server.shut_down()
                server.remove_sockets()
        except Exception as error:  # noqa: BLE001 - start() raises it
            if self._settled.is_set():
                _log.exception("PostgreSQL is no longer watched")
            self._error = self._unusable(error) if isinstance(error, OSError) else error
        finally:
            lock.release()
            self._settled.set()

    def _unusable(self, error: OSError) -> PostgresStartError:
        return PostgresStartError(f"the data folder {self._data_dir} cannot be used: {error}")

    def _watch(self, server: Server) -> None:
        """Start PostgreSQL again whenever it ends, until stop() is called."""
        first, longest = _BACKOFF_S
        delay = first
        while True:
            began = time.monotonic()
            code = self._wait_for_end(server)
            if self._stopping.is_set():
                return
            if time.monotonic() - began > _CALM_S:
                delay = first
            _log.error("PostgreSQL is down (%s); restarting it in %.1f s", code, delay)
            self._stopping.wait(delay)
            delay = min(delay * 2, longest)
            try:
                server.launch()
            except (PostgresStartError, OSError):
                _log.exception("PostgreSQL did not restart")

    def _wait_for_end(self, server: Server) -> int | None:
        """Sleep until PostgreSQL ends or stop() is called; return the exit code, if it has one."""
        if server.process is None:
            return None
        handle = os.pidfd_open(server.process.pid)
        try:
            while not select.select([handle, self._wake[0]], [], [], _LOG_CHECK_S)[0]:
                server.bound_log()
        finally:
            os.close(handle)
        return server.process.poll()


def _made(data_dir: Path) -> Path:
    """Make the data folder if it is missing, closed to others, and return its real path."""
    if not data_dir.exists():
        # As root without a capability to hand on, PostgreSQL's user has to pass by the modes.
        closed = os.geteuid() != 0 or passage_capability() is not None
        data_dir.mkdir(mode=0o700 if closed else 0o711, parents=True)
    return data_dir.resolve()
