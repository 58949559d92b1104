"""The server under test: its own process, port and data, on the real disk, with fsync on."""

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from msgspec import Struct

from api.settings import Settings

_READY_S = 60.0
_STOP_S = 30.0
_ROOT = Path(__file__).parent.parent
_SETTINGS = {name.upper() for name in Settings.__struct_fields__}


class BenchServer(Struct, frozen=True):
    """A running server with the embedded PostgreSQL."""

    port: int
    pid: int
    sockets: str
    """Folder of PostgreSQL's socket."""

    def dsn(self, database: str = "postgres") -> str:
        """For asyncpg."""
        return f"postgresql://postgres:@/{database}?host={self.sockets}"


@contextmanager
def start() -> Iterator[BenchServer]:
    """Start a server with default settings; stop it and remove its data in the end."""
    with tempfile.TemporaryDirectory(prefix="dw-bench-", ignore_cleanup_errors=True) as folder:
        port = _free_port()
        environ = {name: value for name, value in os.environ.items() if name not in _SETTINGS}
        environ |= {"DATA_DIR": folder, "PORT": str(port), "LOG_LEVEL": "warning"}
        process = subprocess.Popen([sys.executable, "-m", "api"], cwd=_ROOT, env=environ)
        try:
            _wait_until_ready(process, port)
            yield BenchServer(port, process.pid, _sockets(Path(folder)))
        finally:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(process: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = time.monotonic() + _READY_S
    while process.poll() is None:
        with (
            suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=2),
        ):
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"the server was not ready after {_READY_S:.0f} s")
        time.sleep(0.05)
    raise RuntimeError(f"the server ended with exit code {process.returncode}")


def _sockets(data_dir: Path) -> str:
    """Where the server put PostgreSQL's socket: see api.pgfolder.socket_folder."""
    note = data_dir / "socket-folder"
    return note.read_text() if note.exists() else str(data_dir.resolve() / "postgres")
