"""A terminal for tests: a real pseudo-terminal, and what would stand on its screen."""

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyte

_ROOT = Path(__file__).parents[2]
_WITHIN_S = 30.0
# The terminal of the new session, so that its keys send signals.
_START = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "client.cli", *sys.argv[1:]])
"""
_LAST = b"\x1b[0m\x00"
ENTERED, LEFT = b"\x1b[?1049h", b"\x1b[?1049l"
"""The other screen, and back."""


class Terminal:
    """`dw` in it."""

    def __init__(
        self, words: Sequence[str], env: Mapping[str, str], columns: int, lines: int
    ) -> None:
        self._master, self._slave = pty.openpty()
        self._size(columns, lines)
        self.modes = termios.tcgetattr(self._slave)
        self.raw = bytearray()
        """All that was written."""
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self._lock = threading.Lock()
        self.process = subprocess.Popen(
            [sys.executable, "-c", _START, *words], cwd=_ROOT,
            env={**env, "TERM": "xterm-256color"}, stdin=self._slave, stdout=self._slave,
            stderr=self._slave, start_new_session=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        rest = b""
        while True:
            try:
                data = os.read(self._master, 65536)
            except OSError:  # EIO: nobody has it open any more
                return
            with self._lock:
                self.raw += data
                rest += data
                # pyte knows one screen: what comes behind the other one stands on an empty one.
                *before, rest = rest.split(LEFT)
                for part in before:
                    self._stream.feed(part)
                    self._screen.reset()
                self._stream.feed(rest)
                rest = b""

    def _size(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def resize(self, columns: int, lines: int) -> None:
        """As somebody draws at the corner of the window."""
        with self._lock:
            self._screen.resize(lines, columns)
            self._screen.reset()
        self._size(columns, lines)

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._master, keys)

    @property
    def shown(self) -> list[str]:
        """The lines of the screen."""
        with self._lock:
            return [line.rstrip() for line in self._screen.display]

    @property
    def now_modes(self) -> list[object]:
        """How the terminal treats what is typed."""
        return termios.tcgetattr(self._slave)

    def until(self, good: Callable[[list[str]], bool]) -> list[str]:
        """Wait until the screen is good; AssertionError with what it was last."""
        deadline = time.monotonic() + _WITHIN_S
        while not good(shown := self.shown):
            if time.monotonic() > deadline:
                raise AssertionError("never so:\n" + "\n".join(shown))
            time.sleep(0.02)
        return shown

    def until_text(self, text: str) -> list[str]:
        """Wait until it stands somewhere."""
        return self.until(lambda lines: any(text in line for line in lines))

    def wait(self) -> int:
        """Wait for its end, and for the last of what it wrote; the exit code."""
        code = self.process.wait(_WITHIN_S)
        os.write(self._slave, _LAST)
        deadline = time.monotonic() + _WITHIN_S
        while not self.raw.endswith(_LAST):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return code

    def close(self) -> None:
        """End what still runs, and give the terminal back."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
        os.close(self._slave)
        self._reader.join(5)
        os.close(self._master)


@contextmanager
def terminal(
    words: Sequence[str], env: Mapping[str, str], *, columns: int = 100, lines: int = 30
) -> Iterator[Terminal]:
    """Run `dw` with those words."""
    one = Terminal(words, env, columns, lines)
    try:
        yield one
    finally:
        one.close()
