"""One process tree: start it, read it, end it. Knows nothing of HTTP or tasks.

The command leads a session and process group of its own. It stays unreaped until its group has
been killed, so that its number cannot come to mean other processes while it is still signalled.
What has left the group is looked for where the tree is ended by force; where the command ends by
itself, that is left to a look every now and then, which many short tasks share (`Trees.tick`).
`subprocess.Popen` uses vfork; uvloop's own spawn forks, which took 3.6 times as long.
"""

import asyncio
import contextlib
import functools
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from agent import linux
from agent.pipe import Pipe
from agent.trees import Tree
from schema.tasks import Reason, Stream

_READS_AT_EXIT = 4
_REAP_S = 1
_RELAYED = 128  # a program that ran another one adds it to the number of the signal

Sink = Callable[[Stream, bytes], None]


class SpawnError(Exception):
    """The system did not start the process: the text says why."""

    def __init__(self, why: str, number: int | None = None, *, of_cwd: bool = False) -> None:
        super().__init__(why)
        self.number = number
        """The system's, where it gave one."""
        self.of_cwd = of_cwd
        """It is the folder that could not be entered."""


class Rules(NamedTuple):
    """When a process is ended by force, in seconds."""

    timeout_s: float | None
    silence_s: float | None
    """For which it may write nothing."""
    kill_grace_s: float
    pipe_wait_s: float


class Exit(NamedTuple):
    """How it ended."""

    reason: Reason
    exit_code: int | None
    signal: int | None
    message: str | None
    run_s: float


class Process:
    """A started process. Call `tick` every now and then; await `ended`."""

    def __init__(
        self,
        popen: subprocess.Popen[bytes],
        fds: Sequence[int],
        sink: Sink,
        rules: Rules,
        clock: Callable[[], float],
        tree: Tree,
        *,
        relayed: bool,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[Exit] = loop.create_future()
        self._popen = popen
        self._rules = rules
        self._clock = clock
        self._tree = tree
        self._relayed = relayed
        self._sink = sink
        self._started_s = self._heard_s = clock()
        self._exited_s: float | None = None
        self._kill_at_s: float | None = None
        self._pipes_until_s = 0.0
        self._paused = True
        self._over = False  # `ended` cannot tell: it is cancelled with the one who awaits it
        self._reason: Reason | None = None
        self._message: str | None = None
        self._pipes: tuple[Pipe, ...] = (
            Pipe(loop, fds[0], lambda data: self._take("stdout", data), self._settle),
            Pipe(loop, fds[1], lambda data: self._take("stderr", data), self._settle),
        )
        self._unwatch = linux.watch_exit(loop, popen.pid, self._on_exit)

    @property
    def pid(self) -> int:
        """Also the number of its process group."""
        return self._popen.pid

    def age_s(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._started_s

    def pause(self) -> None:
        """Leave its output unread: when the pipe is full, it waits."""
        self._paused = True
        for pipe in self._pipes:
            pipe.pause()

    def resume(self) -> None:
        """Read its output."""
        self._paused = False
        self._heard_s = self._clock()  # what it wrote meanwhile is not read yet
        self._pipes_until_s = self._heard_s + self._rules.pipe_wait_s
        for pipe in self._pipes:
            pipe.resume()

    def stop(
        self, reason: Reason, message: str | None = None, grace_s: float | None = None
    ) -> None:
        """Ask the tree to end, and kill what is left after the grace; the first reason stays."""
        if self._over:
            return
        if self._exited_s is not None:
            # The command had ended by itself: only what it left behind is waited for.
            self._kill_at_s = self._clock()
            return
        kill_at_s = self._clock() + (self._rules.kill_grace_s if grace_s is None else grace_s)
        if self._kill_at_s is None or kill_at_s < self._kill_at_s:
            self._kill_at_s = kill_at_s
        if self._reason is None:  # told twice, a shell would run its trap twice
            self._reason = reason
            self._message = message
            self._tree.send(signal.SIGTERM)

    def tick(self) -> None:
        """Do what is due by now: timeout, kill, the end of waiting for pipes."""
        now_s = self._clock()
        if self._over:
            return
        if self._exited_s is None and self._reason is None and (late := self._late(now_s)):
            self.stop("timeout", late)
        if self._kill_at_s is not None and now_s >= self._kill_at_s:
            self._kill_at_s = None
            self._tree.send(signal.SIGKILL)
        if self._exited_s is None:
            return
        if self._paused:  # not the pipe's holder is slow, but we
            self._pipes_until_s = now_s + self._rules.pipe_wait_s
        elif self._kill_at_s is None and now_s >= self._pipes_until_s:
            self._give_up_pipes()
        self._settle()

    def _late(self, now_s: float) -> str | None:
        """Say which of its times is over, if one is."""
        timeout_s, silence_s = self._rules.timeout_s, self._rules.silence_s
        if timeout_s is not None and now_s >= self._started_s + timeout_s:
            return f"did not end within {timeout_s:g} s"
        if silence_s is None or now_s < self._heard_s + silence_s:
            return None
        for pipe in self._pipes:  # a loop that was held up has not read yet what came meanwhile
            pipe.drain(1)
        if self._paused or now_s < self._heard_s + silence_s:
            return None
        return f"wrote nothing for {silence_s:g} s"

    def _take(self, stream: Stream, data: bytes) -> None:
        self._heard_s = self._clock()
        self._sink(stream, data)

    def abandon(self) -> None:
        """Kill the tree at once and forget it, unless it has ended."""
        if not self._over:
            self._tree.send(signal.SIGKILL)
            self._tree.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(_REAP_S)
            self._release()

    def _on_exit(self) -> None:
        if self._over:
            return
        self._exited_s = self._clock()
        self._pipes_until_s = self._exited_s + self._rules.pipe_wait_s
        for pipe in self._pipes:
            pipe.drain(_READS_AT_EXIT)
        self._settle()

    def _settle(self) -> None:
        """End when the command has exited, both streams are read, and nobody is in his grace."""
        if self._over or self._exited_s is None or any(pipe.open for pipe in self._pipes):
            return
        if self._kill_at_s is not None and self._tree.lives():
            return  # looked at again with every tick
        if self._reason is None:
            self._tree.send_group(signal.SIGKILL)
        else:
            self._tree.send(signal.SIGKILL)
        by_guardian = self._tree.close()
        if by_guardian is not None and self._reason is None:
            self._reason, self._message = "agent_lost", by_guardian
        code = self._popen.wait()
        self._release()
        run_s = self._exited_s - self._started_s
        if self._relayed and code - _RELAYED in signal.valid_signals():
            code = _RELAYED - code
        by_signal = -code if code < 0 else None
        if self._reason is not None:
            end = Exit(self._reason, None, by_signal, self._message, run_s)
        elif by_signal is not None:
            end = Exit("signal", None, by_signal, self._message, run_s)
        else:
            end = Exit("exit", code, None, self._message, run_s)
        if not self.ended.cancelled():
            self.ended.set_result(end)

    def _give_up_pipes(self) -> None:
        if self._message is None:
            self._message = (
                f"a process left behind kept the output open {self._rules.pipe_wait_s:g} s after "
                "the command had ended; it was killed, and what it wrote later is lost"
            )
        self._tree.send(signal.SIGKILL)
        for pipe in self._pipes:
            pipe.drain(_READS_AT_EXIT)
            pipe.close()

    def _release(self) -> None:
        self._over = True
        self._unwatch()
        for pipe in self._pipes:
            pipe.close()
        # They point at this, and this holds what was written: the collector looks too seldom.
        self._pipes = ()
        self._unwatch = _ignore


def _ignore() -> None:
    pass


@functools.cache
def _nothing() -> int:
    """/dev/null, for every command: opened once, which saves each start two system calls."""
    return os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)


def start(
    argv: Sequence[str | bytes],
    *,
    cwd: Path | str | None,
    env: Mapping[bytes, bytes],
    sink: Sink,
    rules: Rules,
    clock: Callable[[], float],
    add_tree: Callable[[int], Tree],
    fds: Sequence[int] = (),
    relayed: bool = False,
) -> Process:
    """Start a process, paused; SpawnError where that fails. `add_tree` is given its id.

    It gets `fds` besides its streams. A `relayed` one runs the command in another way than by
    becoming it: its exit code 128 + n tells of signal n.
    """
    reading: list[int] = []
    writing: list[int] = []
    try:
        for _ in range(2):
            reader, writer = os.pipe()
            reading.append(reader)
            writing.append(writer)
            os.set_blocking(reader, False)
        popen = subprocess.Popen(  # noqa: S603 - running what it is told is what an agent is for
            argv,
            stdin=_nothing(),
            stdout=writing[0],
            stderr=writing[1],
            cwd=cwd,
            env=env,
            start_new_session=True,
            pass_fds=fds,
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        for fd in reading:
            os.close(fd)
        number, where = (
            (error.errno, error.filename) if isinstance(error, OSError) else (None, None)
        )
        raise SpawnError(str(error), number, of_cwd=cwd is not None and where == cwd) from error
    finally:
        for fd in writing:
            os.close(fd)
    return Process(popen, reading, sink, rules, clock, add_tree(popen.pid), relayed=relayed)
