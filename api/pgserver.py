"""One embedded PostgreSQL: made by initdb, started, waited for, stopped. Who watches it: postgres.

Everything here runs in the thread whose life PostgreSQL's is tied to (pgcommand.command_prefix).
"""

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from api import pgcommand, pgfolder
from api.pgcommand import PostgresStartError

_STUCK_S = 300.0  # no answer and not a word in the log: recovery reports every ten seconds
_ORPHANS_S = 20.0  # how long a killed PostgreSQL's processes may hold its shared memory
_LOG_BYTES = 8 * 1024 * 1024  # postgres.log, and as much in postgres.log.1
_STOP_STEPS = ((signal.SIGINT, 60.0), (signal.SIGQUIT, 15.0), (signal.SIGKILL, 15.0))

_SETTINGS = {
    "listen_addresses": "",
    "port": "5432",
    "unix_socket_permissions": "0700",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "wal_compression": "off",  # log chunks arrive compressed
    "synchronous_commit": "on",
    "jit": "off",
    "logging_collector": "off",
    "log_min_messages": "warning",
    "log_checkpoints": "off",
    "log_timezone": "UTC",
    "timezone": "UTC",
}
# A killed server still loses nothing; a machine that goes down may lose everything.
_NOT_DURABLE = {"fsync": "off", "full_page_writes": "off"}


class Server:
    """PostgreSQL on ``data_dir``/postgres, which must be locked (pgfolder.FolderLock).

    ``stopping`` cuts every wait short. Raises PostgresStartError where a start fails.
    """

    def __init__(
        self, data_dir: Path, *, durable: bool, max_connections: int, stopping: threading.Event
    ) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self._data_dir = data_dir
        self._pgdata = data_dir / "postgres"
        self._logfile = data_dir / "postgres.log"
        self._stopping = stopping
        self._durable = durable
        self._programs = pgcommand.find_programs()
        self._account = pgcommand.choose_account(self._pgdata)
        self._environment = pgcommand.environment()
        needed = [*self._programs.needed, data_dir]
        self._prefix = pgcommand.command_prefix(self._account, needed)
        self.sockets = pgfolder.socket_folder(data_dir, self._pgdata, self._account)
        self._settings = _SETTINGS | ({} if durable else _NOT_DURABLE)
        self._settings["max_connections"] = str(max_connections)
        self._settings["cluster_name"] = pgfolder.cluster_name(self._pgdata)
        # A list with commas, in which quotes make one name of what is between them.
        quoted = str(self.sockets).replace('"', '""')
        self._settings["unix_socket_directories"] = f'"{quoted}"'

    def make(self) -> None:
        """Run initdb, once in a folder's life, under another name until it is whole."""
        if (self._pgdata / "PG_VERSION").exists():
            return
        if self._pgdata.exists():
            raise PostgresStartError(f"{self._pgdata} is not a PostgreSQL folder: move it away")
        new = self._data_dir / "postgres.new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        if self._account.uid is not None and self._account.gid is not None:
            os.chown(new, self._account.uid, self._account.gid)
        # The built-in locale sorts the same everywhere and for ever; the C library's does not.
        locale = ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
        words: list[str | Path] = [*self._prefix, self._programs.bin / "initdb", "-D", new]
        words += ["-U", "postgres", "-A", "trust", "-E", "UTF8", *locale]
        words += [] if self._durable else ["--no-sync"]
        if self._spawn(words).wait():
            raise PostgresStartError(f"PostgreSQL's initdb failed:{self._tail()}")
        new.rename(self._pgdata)
        folder = os.open(self._data_dir, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)

    def launch(self) -> None:
        """Start PostgreSQL and wait until it answers, or ``stopping`` is set.

        After a kill -9 its orphans may hold the shared memory until they notice: tried again.
        """
        killed = pgfolder.clear_leftovers(self._pgdata)
        deadline = time.monotonic() + (_ORPHANS_S if killed else 0)
        words: list[str | Path] = [
            *self._prefix,
            self._programs.bin / "postgres",
            "-D",
            self._pgdata,
        ]
        words += [f"-c{name}={value}" for name, value in self._settings.items()]
        while not self._stopping.is_set():
            try:
                self.process = self._spawn(words)
                self._wait_until_ready(self.process)
            except PostgresStartError:
                self.shut_down()
                if time.monotonic() > deadline:
                    raise
                self._stopping.wait(0.2)
            else:
                return

    def shut_down(self) -> None:
        """End PostgreSQL in order, or by force in the end. Again does nothing."""
        if self.process is None:
            return
        for step, patience_s in _STOP_STEPS:
            self.process.send_signal(step)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(patience_s)
                break
        self.process = None

    def remove_sockets(self) -> None:
        """Remove the socket's folder, if it has one of its own."""
        if self.sockets != self._pgdata:
            shutil.rmtree(self.sockets, ignore_errors=True)

    def bound_log(self) -> None:
        """Move the log's text to postgres.log.1 when it is long; the file itself stays open."""
        with contextlib.suppress(FileNotFoundError):
            if self._logfile.stat().st_size > _LOG_BYTES:
                shutil.copyfile(self._logfile, self._logfile.with_name("postgres.log.1"))
                os.truncate(self._logfile, 0)

    def _spawn(self, words: Sequence[str | Path]) -> subprocess.Popen[bytes]:
        self.bound_log()
        # Appending: what PostgreSQL writes after the file was cut goes to its new end.
        log = os.open(self._logfile, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            return pgcommand.spawn(words, self._environment, log)
        finally:
            os.close(log)

    def _answers(self) -> bool:
        ask: list[str | Path] = [self._programs.bin / "pg_isready", "-q", "-h", self.sockets]
        ask += ["-U", "postgres", "-d", "postgres"]
        return pgcommand.spawn(ask, self._environment, subprocess.DEVNULL).wait() == 0

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        """Wait while PostgreSQL lives and its log grows: recovery may take many minutes."""
        size, since = -1, time.monotonic()
        while not self._stopping.is_set():
            if process.poll() is not None:
                raise PostgresStartError(
                    f"PostgreSQL exited on startup ({process.returncode}):{self._tail()}"
                )
            if self._answers():
                return
            if (now := self._logfile.stat().st_size) != size:
                size, since = now, time.monotonic()
            elif time.monotonic() - since > _STUCK_S:
                raise PostgresStartError(f"PostgreSQL did not become ready:{self._tail()}")
            self._stopping.wait(0.03)

    def _tail(self) -> str:
        """Return the log's last lines, each on a line of its own."""
        with self._logfile.open("rb") as log:
            log.seek(max(0, self._logfile.stat().st_size - 4096))
            lines = log.read().decode(errors="replace").splitlines()
        return "\n".join(["", *lines[-12:], f"(all of it: {self._logfile})"])
