"""A full screen on a terminal, drawn again and again, and left as it was found whatever happens."""

import asyncio
import os
import signal
import sys
import termios
import tty
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

_FRAME_S = 0.2
"""Between two frames: what changes faster cannot be read."""

_CLOCK_S = 1.0
_SIGNALLED = 128

Draw = Callable[[int, int], list[Text]]
"""(columns, lines) of the screen to its lines"""


class LeftError(Exception):
    """Somebody does not want to see more; carries the exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class FullScreen:
    """Use it as a context manager inside of a running loop, and let `run` run meanwhile.

    `q` leaves, as Ctrl-C and SIGTERM do; Ctrl-Z gives the terminal back for a while.
    """

    def __init__(self, console: Console, draw: Draw, quit_code: int) -> None:
        """`quit_code`: what `q` ends with."""
        self._console = console
        self._draw = draw
        self._quit_code = quit_code
        self._changed = asyncio.Event()
        self._left: int | None = None
        self._keys = sys.stdin.fileno() if sys.stdin.isatty() else None
        self._modes: list[Any] = []
        self._live: Live | None = None

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGWINCH, self.changed)
        loop.add_signal_handler(signal.SIGTSTP, self._pause)
        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._leave, _SIGNALLED + number)
        if self._keys is not None:
            self._modes = termios.tcgetattr(self._keys)
            loop.add_reader(self._keys, self._key)
        self._show()
        return self

    def __exit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        self._hide()
        if self._keys is not None:
            loop.remove_reader(self._keys)
        for number in (signal.SIGWINCH, signal.SIGTSTP, signal.SIGTERM, signal.SIGHUP):
            loop.remove_signal_handler(number)

    def changed(self) -> None:
        """Something else is to be seen."""
        self._changed.set()

    async def run(self) -> None:
        """Draw until cancelled; LeftError when somebody leaves."""
        while self._left is None:
            self._changed.clear()
            self._frame()
            await asyncio.sleep(_FRAME_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(_CLOCK_S - _FRAME_S):
                    await self._changed.wait()
        raise LeftError(self._left)

    def _frame(self) -> None:
        if self._live is not None:
            lines: list[RenderableType] = list(self._draw(*self._console.size))
            self._live.update(Group(*lines), refresh=True)

    def _show(self) -> None:
        if self._keys is not None:
            tty.setcbreak(self._keys)  # what is typed would stand on the screen
        self._live = Live(
            console=self._console, screen=True, auto_refresh=False,
            redirect_stdout=False, redirect_stderr=False,
        )  # fmt: skip
        self._live.start()

    def _hide(self) -> None:
        with suppress(OSError, termios.error):  # the terminal may be gone
            if self._live is not None:
                self._live.stop()
                self._live = None
            if self._keys is not None:
                termios.tcsetattr(self._keys, termios.TCSADRAIN, self._modes)

    def _pause(self) -> None:
        """Stop as the shell wants it, and go on when it says so."""
        self._hide()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._show()
        self.changed()

    def _leave(self, code: int) -> None:
        self._left = code
        self.changed()

    def _key(self) -> None:
        assert self._keys is not None
        typed = os.read(self._keys, 1024)
        if not typed:
            asyncio.get_running_loop().remove_reader(self._keys)
        elif b"q" in typed or b"\x04" in typed:
            self._leave(self._quit_code)
