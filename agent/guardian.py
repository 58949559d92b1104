"""The process that people start. Its worker does everything; it ends what the worker leaves behind.

It forks the worker and waits. It passes on signals that ask for the end, and adopts what the
worker's tasks started when the worker dies. It kills exclusive tasks that a worker which stands
still cannot end itself. It has no event loop and no connection: little in it can fail.
"""

import contextlib
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from agent import linux, process_table
from agent.link import Entry, Link, hear, wake
from agent.process_table import Group, Mark, Seen, Table

if TYPE_CHECKING:
    from agent.engine import Engine

_STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_LOOK_S = 1.0  # while an exclusive task runs; a timer does not count the machine's sleep
_RETRY_S = 0.05
_GIVE_UP_S = 10.0  # after SIGKILL: a process that hangs in the system does not even die by that


def run(
    work: Callable[[Link], int],
    slots: int,
    agent: str,
    kill_grace_s: float,
    engine: "Engine | None" = None,
) -> int:
    """Fork, do `work` in the child, guard it in the parent; the exit status of either.

    `engine` is given where tasks may run in containers, which are no processes of ours.
    Nothing heavy may have been imported and no thread started before.
    """
    adopts = linux.adopt_orphans() and linux.has_proc()
    spared = {seen.pid for seen in process_table.read().children(os.getpid())}
    # nohup means it. SIGINT is ignored in whatever a shell starts with `&`, which must not count.
    hangs_up = signal.getsignal(signal.SIGHUP) != signal.SIG_IGN
    stopping = [number for number in _STOPPING if hangs_up or number != signal.SIGHUP]
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, it would reap for us
    with Link(slots) as link:
        signal.pthread_sigmask(signal.SIG_BLOCK, stopping)
        worker = os.fork()
        if not worker:
            link.guardian.close()
            # The guardian tells us. A terminal and a service manager signal the two of us, which
            # must not count twice. No handler outlives exec, so tasks have the default again.
            for number in (*stopping, signal.SIGQUIT):
                signal.signal(number, _ignore)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, stopping)
            return work(link)
        link.worker.close()
        with _signalled(stopping) as signals, selectors.DefaultSelector() as selector:
            selector.register(signals, selectors.EVENT_READ)
            selector.register(link.guardian, selectors.EVENT_READ)
            return Guardian(
                worker,
                link,
                selector,
                agent.encode(),
                kill_grace_s,
                spared if adopts else None,
                engine,
            ).run()


@contextlib.contextmanager
def _signalled(stopping: Sequence[signal.Signals]) -> Iterator[socket.socket]:
    """Unblock signals; their numbers can be read from what this gives."""
    read, written = socket.socketpair()
    with read, written:
        written.setblocking(False)
        signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)
        for number in (*stopping, signal.SIGCHLD):
            signal.signal(number, _ignore)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, stopping)
        try:
            yield read
        finally:
            signal.set_wakeup_fd(-1)


def _ignore(number: int, frame: object) -> None:
    """Do nothing; Python itself notes the signal, where it was asked to."""


class Guardian:
    """Watches over one worker."""

    def __init__(
        self,
        worker: int,
        link: Link,
        selector: selectors.BaseSelector,
        agent: bytes,
        kill_grace_s: float,
        spared: set[int] | None,
        engine: "Engine | None",
    ) -> None:
        """`selector` has our end of the link, and a socket that gives the signals' numbers.

        `spared` were our children before, as of a shell that ran us by exec; None where no orphans
        come to us, or nobody would see them.
        """
        self._worker = worker
        self._link = link
        self._agent = agent
        self._kill_grace_s = kill_grace_s
        self._spared = spared
        self._engine = engine
        self._selector = selector
        self._status: int | None = None
        self._childless = False
        self._stops = 0

    def run(self) -> int:
        """Guard until the worker has ended and nothing of it is left; the exit status."""
        wait_s: float | None = 0
        while self._status is None:
            self._wait(wait_s)
            wait_s = self._end_exclusive()
        code = os.waitstatus_to_exitcode(self._status)
        said = [f"its worker was killed by signal {-code}"] if code < 0 else []
        said += self._end_left()
        if self._engine is not None and (containers := self._engine.remove_all()):
            said.append(f"removed containers that its tasks had left: {containers}")
        if said:
            with contextlib.suppress(OSError):  # the terminal may be gone
                sys.stderr.write(f"agent: {'; '.join(said)}\n")
        return code if code >= 0 else 128 - code

    def _wait(self, most_s: float | None) -> None:
        """Wait until there may be something to do; pass on what asks for the end; reap."""
        for key, _ in self._selector.select(most_s):
            assert isinstance(key.fileobj, socket.socket)
            said = hear(key.fileobj)
            if not said:  # the worker is ending
                self._selector.unregister(key.fileobj)
            elif key.fileobj is not self._link.guardian:
                for _ in range(len(said) - said.count(signal.SIGCHLD)):
                    self._stops += 1
                    wake(self._link.guardian)
        self._reap()

    def _reap(self) -> None:
        self._childless = False
        try:
            while (reaped := os.waitpid(-1, os.WNOHANG))[0]:
                if reaped[0] == self._worker:
                    self._status = reaped[1]
        except ChildProcessError:
            self._childless = True

    def _end_exclusive(self) -> float | None:
        """Kill exclusive tasks whose time is over; seconds until the next look."""
        entries = [entry for entry in self._link.entries() if entry.exclusive]
        if not entries:
            return None
        left_s = self._link.until_s - linux.boot_s()
        if left_s > 0:
            return min(left_s, _LOOK_S)
        table = process_table.read()
        running = [target for entry in entries for target in self._members(entry, table)]
        for entry in entries:
            self._link.ending(entry)
        for target in running:
            target.send(signal.SIGKILL)
        if running and self._engine is not None:
            name = self._engine.name
            self._engine.remove(name(entry.task, entry.attempt) for entry in entries)
        return _RETRY_S if running else _LOOK_S

    def _members(self, entry: Entry, table: Table) -> Sequence[Seen | Group]:
        """What runs of a task while the worker lives."""
        if not linux.has_proc():
            group = Group(entry.leader)
            return [group] if group.runs() else []
        leader = table.get(entry.leader)
        if leader is None or leader.parent != self._worker:
            return []  # ended and reaped just now
        leaders = {other.leader for other in self._link.entries()}
        orphans = [seen for seen in table.children(self._worker) if seen.pid not in leaders]
        mark = Mark.of(self._agent, entry.task, entry.attempt)
        members = table.members(entry.leader, mark, orphans)
        return [leader, *members] if leader.running else members

    def _end_left(self) -> Iterator[str]:
        """Ask what is left to end, kill it after the grace; what there is to say of it."""
        grace_s = self._kill_grace_s
        if any(entry.exclusive for entry in self._link.entries()):
            grace_s = min(grace_s, self._link.until_s - linux.boot_s())
        kill_at_s = time.monotonic() + grace_s
        stops = self._stops
        ended: set[int] = set()
        while left := self._left():
            now_s = time.monotonic()
            if now_s >= kill_at_s + _GIVE_UP_S:
                yield f"cannot end processes {[target.pid for target in left]}"
                ended.difference_update(target.pid for target in left)
                break
            killing = now_s >= kill_at_s or self._stops > stops
            for target in left:
                if killing or target.pid not in ended:
                    target.send(signal.SIGKILL if killing else signal.SIGTERM)
                    ended.add(target.pid)
            self._wait(_RETRY_S if killing else min(kill_at_s - now_s, _LOOK_S))
        if ended:
            many = "a process" if len(ended) == 1 else f"{len(ended)} processes"
            yield f"ended {many} that its tasks had left"

    def _left(self) -> Sequence[Seen | Group]:
        """What still runs of what the dead worker had started."""
        if self._spared is None:
            groups = [Group(entry.leader) for entry in self._link.entries()]
            return [group for group in groups if group.runs()]
        if self._childless:
            return []
        while (table := process_table.read()).get(os.getpid()) is None:
            time.sleep(_RETRY_S)  # no descriptor is left in the whole system
        ours = [seen for seen in table.children(os.getpid()) if seen.pid not in self._spared]
        return [seen for seen in table.below(ours).values() if seen.running]
