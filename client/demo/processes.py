"""The demo's own server and agent: started apart, and stopped whatever happens."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_STOP_S = 20.0  # PostgreSQL writes what it has, the agent ends its tasks
_KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "USER")
_LINES_SHOWN = 40


class Process:
    """A program of ours whose output goes to a file."""

    def __init__(self, name: str, words: list[str], output: Path, env: dict[str, str]) -> None:
        self.name = name
        self._output = output
        # Nothing else of the caller's environment: DATABASE_URL, TOKEN or PORT are not for this.
        kept = {key: value for key, value in os.environ.items() if _is_kept(key)}
        with output.open("wb") as out:
            self._popen = subprocess.Popen(  # noqa: S603 - our own modules
                [sys.executable, "-m", *words],
                env=kept | env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is the demo's: it stops them in order
            )

    @property
    def pid(self) -> int:
        """Also of its session and process group."""
        return self._popen.pid

    @property
    def ended(self) -> bool:
        """Whether it is gone, which it must not be."""
        return self._popen.poll() is not None

    def tail(self) -> str:
        """Its last lines."""
        lines = self._output.read_text(errors="replace").splitlines()[-_LINES_SHOWN:]
        return "\n".join(f"  {line}" for line in lines) or "  (it wrote nothing)"

    def stop(self) -> None:
        """Ask it to end, then make it."""
        if self._popen.poll() is None:
            self._popen.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._popen.wait(_STOP_S)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()


@contextmanager
def stopped_at_the_end(processes: list[Process]) -> Iterator[None]:
    """Stop what is in the list then, last started first. Signals cannot cut the stopping short."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        while processes:
            processes.pop().stop()


def free_port() -> int:
    """Find a port that was free a moment ago."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def _end(number: int, _: object) -> None:
    sys.exit(128 + number)


def _is_kept(name: str) -> bool:
    return name in _KEPT or name.startswith(("LC_", "PYTHON"))
