"""Which processes there are, who started whom, and signals that reach the one that was meant.

What a task started belongs to it also when it has left the task's process group. It is found as a
descendant of the task's leader, in the leader's session, or, when all between them have ended, by
its environment. All that needs /proc; without it there are process groups only.
"""

import contextlib
import os
import signal
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from agent import linux

AGENT, TASK, ATTEMPT = b"DW_AGENT_ID", b"DW_TASK_ID", b"DW_ATTEMPT"

_STAT_BYTES = 1024
_ENDED = (b"Z", b"X")


class Mark(NamedTuple):
    """What the environment of an attempt's processes says, unless they have wiped it."""

    agent: bytes
    task: bytes
    attempt: bytes

    @classmethod
    def of(cls, agent: bytes, task: int, attempt: int) -> "Mark":
        """What it has to say for an attempt of this agent's."""
        return cls(agent, b"%d" % task, b"%d" % attempt)

    def variables(self) -> dict[bytes, bytes]:
        """For the environment of the attempt's first process."""
        return {AGENT: self.agent, TASK: self.task, ATTEMPT: self.attempt}


class Seen(NamedTuple):
    """A process at the moment when it was looked at."""

    pid: int
    parent: int
    group: int
    session: int
    running: bool
    """False if it has ended and its parent has not asked how."""
    started: int
    """When, in ticks after the start of the machine: with `pid` it names one process for ever."""

    def runs(self) -> bool:
        """Tell whether it still does."""
        now = look(self.pid)
        return now is not None and now.running and now.started == self.started

    def send(self, number: signal.Signals) -> bool:
        """Signal it, and not whoever has its number by now; False if that cannot be done."""
        try:
            fd = os.pidfd_open(self.pid)
        except OSError:  # gone; or an old kernel, or a sandbox that forbids it
            fd = -1
        try:
            if not self.runs():
                return False
            if fd < 0:
                os.kill(self.pid, number)
            else:
                signal.pidfd_send_signal(fd, number)
        except OSError:  # it ended now, or is another user's
            return False
        finally:
            if fd >= 0:
                os.close(fd)
        return True


class Group(NamedTuple):
    """All of a process group, where nothing else can be known."""

    pid: int
    """Of its leader, which may have ended."""

    def send(self, number: signal.Signals) -> bool:
        """Signal it; False if nobody is there."""
        # macOS answers "not permitted" for a group in which only the unreaped leader is left.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)
            return True
        return False

    def runs(self) -> bool:
        """Tell whether a member still runs; an unreaped one does not."""
        if linux.has_proc():
            return any(seen.group == self.pid and seen.running for seen in read().all())
        # macOS leaves the unreaped out; a system that counts them costs the whole grace.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, 0)
            return True
        return False


class Table:
    """All processes at about the same moment."""

    def __init__(self, processes: Iterable[Seen]) -> None:
        self._by_pid: dict[int, Seen] = {}
        self._children: dict[int, list[Seen]] = defaultdict(list)
        self._sessions: dict[int, list[Seen]] = defaultdict(list)
        self._marks: dict[int, Mark | None] = {}
        for seen in processes:
            self._by_pid[seen.pid] = seen
            self._children[seen.parent].append(seen)
            self._sessions[seen.session].append(seen)

    def all(self) -> Iterable[Seen]:
        """In no order."""
        return self._by_pid.values()

    def get(self, pid: int) -> Seen | None:
        """None if there was no such process."""
        return self._by_pid.get(pid)

    def children(self, pid: int) -> list[Seen]:
        """What has that parent."""
        return self._children.get(pid, [])

    def session(self, pid: int) -> list[Seen]:
        """What is in the session that this process opened."""
        return self._sessions.get(pid, [])

    def above(self, pid: int) -> set[int]:
        """A process and its ancestors."""
        line: set[int] = set()
        while pid not in line and (seen := self.get(pid)) is not None:
            line.add(pid)
            pid = seen.parent
        return line

    def below(self, roots: Iterable[Seen]) -> dict[int, Seen]:
        """These processes and all their descendants."""
        found: dict[int, Seen] = {}
        left = list(roots)
        while left:
            seen = left.pop()
            if seen.pid not in found:
                found[seen.pid] = seen
                left.extend(self.children(seen.pid))
        return found

    def mark(self, seen: Seen) -> Mark | None:
        """What its environment says; None if that is nothing, or nothing that we may read."""
        if seen.pid not in self._marks:
            self._marks[seen.pid] = _mark(seen.pid)
        return self._marks[seen.pid]

    def members(
        self, leader: int, mark: Mark, orphans: Iterable[Seen], known: Iterable[Seen] = ()
    ) -> list[Seen]:
        """What runs of an attempt, without its leader.

        `orphans` may be anybody's; `known` were its members before.
        """
        roots = [*self.children(leader), *self.session(leader)]
        roots += (orphan for orphan in orphans if self.mark(orphan) == mark)
        for before in known:
            now = self.get(before.pid)
            if now is not None and now.started == before.started:
                roots.append(now)
        found = self.below(roots)
        return [seen for pid, seen in found.items() if seen.running and pid != leader]


def read() -> Table:
    """Look at all processes, some 15 µs for each.

    Nothing is seen, not even this process, where there is no /proc, or no descriptor to read it.
    """
    if not linux.has_proc():
        return Table(())
    try:
        pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]  # noqa: PTH208
    except OSError:
        return Table(())
    return Table(seen for pid in pids if (seen := look(pid)) is not None)


def look(pid: int) -> Seen | None:
    """Look at one process; None if there is none of that number."""
    stat = _read(pid, "stat", _STAT_BYTES)
    if not stat:
        return None
    # pid (name, which may hold anything) state ppid pgrp session …: proc_pid_stat(5)
    fields = stat.rpartition(b")")[2].split(None, 20)
    state, parent, group, session = fields[:4]
    threads, started = int(fields[17]), int(fields[19])
    # A program's first thread may end before the others do.
    running = state not in _ENDED or threads > 1
    return Seen(pid, int(parent), int(group), int(session), running, started)


def _mark(pid: int) -> Mark | None:
    found: dict[bytes, bytes] = {}
    for variable in _read(pid, "environ", -1).split(b"\0"):
        name, _, value = variable.partition(b"=")
        if name in (AGENT, TASK, ATTEMPT):
            found.setdefault(name, value)
    if AGENT not in found:
        return None
    return Mark(found[AGENT], found.get(TASK, b""), found.get(ATTEMPT, b""))


def _read(pid: int, name: str, size: int) -> bytes:
    try:
        with open(f"/proc/{pid}/{name}", "rb", buffering=0) as file:  # noqa: PTH123 - no Path each
            return file.read(size) or b""
    except OSError:  # it ended meanwhile, or is another user's
        return b""
