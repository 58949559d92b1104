"""A program of ours as a process: started, watched, started again when it has ended, found.

As by the supervisors that run beside the real ones (systemd, a container's runtime): whatever ends
is started again.
"""

import asyncio
import contextlib
import os
import random
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from pathlib import Path

import psutil

MARK = "CHAOS_RUN"
"""Variable in the environment of all processes of a campaign, tasks too."""

_ROOT = Path(__file__).parents[2]
_TASK = "DW_TASK_ID"
_PORTS = (20_000, 32_000)  # the system gives out those from 32,768 on
_AGAIN_S = 0.3
_TAIL_BYTES = 1_500


class StuckError(Exception):
    """A program did not do what it has to."""

    def __init__(self, name: str, what: str) -> None:
        super().__init__(f"{name} {what}")
        self.name = name
        self.what = what


Ended = Callable[["Program"], None]


class Program:
    """One program, started again and again by `run`."""

    def __init__(
        self,
        name: str,
        words: list[str],
        environ: Mapping[str, str],
        folder: Path,
        ended: Ended,
    ) -> None:
        """`words` follow `python -m`. Its output goes to a file in `folder`.

        `ended` hears of it each time it has ended.
        """
        self.name = name
        self.output = folder / f"{name}.log"
        self.rest_s = _AGAIN_S
        """From an end to the next start."""
        self.up = asyncio.Event()
        """Set while it runs."""
        self.code: int | None = None
        """Exit code of its last end."""
        self.down = asyncio.Event()
        self.down.set()
        self._words = words
        self._environ = dict(environ)
        self._ended = ended
        self._process: asyncio.subprocess.Process | None = None
        self._wanted = True

    @property
    def pid(self) -> int | None:
        """Of the process that was started; None while there is none."""
        return None if self._process is None else self._process.pid

    async def run(self) -> None:
        """Keep it running until `end` was called and it has ended."""
        while self._wanted:
            self.code = await self._run_once()
            self._ended(self)
            if self._wanted:
                await asyncio.sleep(self.rest_s)
                self.rest_s = _AGAIN_S

    async def _run_once(self) -> int:
        with self.output.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                *self._words,
                cwd=_ROOT,
                env=self._environ,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is the campaign's, which ends them in order
            )
        if not self._wanted:  # meanwhile
            self._process.kill()
        self.down.clear()
        self.up.set()
        try:
            return await self._process.wait()
        finally:
            self._process = None
            self.up.clear()
            self.down.set()

    def strike(self, number: signal.Signals) -> None:
        """Send the process that was started a signal."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def must(self, what: str, done: Awaitable[object], within_s: float) -> None:
        """Wait until it has done something; StuckError if that takes longer."""
        try:
            async with asyncio.timeout(within_s):
                await done
        except TimeoutError:
            raise StuckError(self.name, f"did not {what} within {within_s:.0f} s") from None

    def end(self, number: signal.Signals) -> None:
        """End it for good."""
        self._wanted = False
        self.strike(number)

    def own(self) -> list[psutil.Process]:
        """The process that was started and those under it that are no tasks, from the top."""
        return [] if self.pid is None else list(own_processes(self.pid))

    def tree(self) -> list[psutil.Process]:
        """The process that was started and all below it."""
        if self.pid is None:
            return []
        process = psutil.Process(self.pid)
        return [process, *process.children(recursive=True)]

    def last_words(self) -> str:
        """The end of its output."""
        with self.output.open("rb") as output:
            output.seek(max(0, self.output.stat().st_size - _TAIL_BYTES))
            return output.read().decode(errors="replace").strip()


def free_port() -> int:
    """Find a port that is free, and that no connection is given as its own end.

    What listens there may go away for a while and come back.
    """
    while True:
        port = random.randrange(*_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def own_processes(pid: int) -> Iterator[psutil.Process]:
    """A process and its descendants, without tasks and what is below those."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        yield process
        for child in process.children():
            environ = _environment(child)
            if environ and _TASK not in environ:
                yield from own_processes(child.pid)


def marked(mark: str) -> list[psutil.Process]:
    """All processes of a campaign that run, without this one."""
    return [
        process
        for process in psutil.process_iter()
        if process.pid != os.getpid() and _environment(process).get(MARK) == mark
    ]


def zombies(pids: Iterable[int]) -> list[psutil.Process]:
    """Children of these that have ended and that nobody has waited for."""
    found = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            found += [
                child
                for child in psutil.Process(pid).children()
                if child.status() == psutil.STATUS_ZOMBIE
            ]
    return found


def send(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    """Send a signal; psutil tells by its start whether a number still means the same process."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def kill(processes: Iterable[psutil.Process]) -> None:
    """SIGKILL."""
    send(processes, signal.SIGKILL)


def _environment(process: psutil.Process) -> dict[str, str]:
    """What it was started with; nothing of one that has ended, or is somebody else's."""
    with contextlib.suppress(psutil.Error, OSError):
        return process.environ()
    return {}
