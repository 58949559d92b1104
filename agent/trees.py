"""The worker's view of its tasks' processes: all of each one's tree, and what fell off ended ones.

A worker that adopts orphans is the parent of whatever lost its own. It reaps those that ended, and
kills those whose attempt has ended. To look for them takes a millisecond or more, so it is done at
most for a hundredth of the time, and not at all while no attempt ends.
"""

import contextlib
import math
import os
import signal
import time
from collections.abc import Callable

from agent import linux
from agent.link import Link
from agent.process_table import Group, Mark, Seen, Table, read

_SHARE = 1 / 100  # of the processor's time, for looks that nobody waits for
_COST_MOST_S = 0.25
_LAST_S = 2.0
_LAST_PAUSE_S = 0.01


class Tree:
    """The processes of one attempt."""

    __slots__ = ("_group", "_known", "_place", "_shielded", "_trees", "mark")

    def __init__(
        self, trees: "Trees", leader: int, mark: Mark, place: int, *, shielded: bool
    ) -> None:
        self.mark = mark
        self._shielded = shielded
        self._trees = trees
        self._group = Group(leader)
        self._place = place
        self._known: list[Seen] = []

    def send_group(self, number: signal.Signals) -> None:
        """Signal what has not left the process group: no look is needed for that."""
        self._group.send(number)

    def send(self, number: signal.Signals) -> None:
        """Signal all of it."""
        self._look()  # before anybody ends, and its children are nobody's
        if self._shielded and number != signal.SIGKILL and len(self._known) > 1:
            # Its leader's end is the end of all, without a grace. With one process beside that, an
            # init that is deaf to all else, nothing of the task runs yet.
            for seen in self._known:
                seen.send(number)
            return
        if self._shielded:
            number = signal.SIGKILL
        self._group.send(number)
        for seen in self._known:
            if seen.group != self._group.pid:
                seen.send(number)

    def lives(self) -> bool:
        """Tell whether something of it, without its leader, may still run."""
        if not linux.has_proc():
            return self._group.runs()
        if any(seen.runs() for seen in self._known):
            return True
        # Nobody is born of nobody: a look that saw none decides it, however old it is.
        return not self._look() or bool(self._known)

    def close(self) -> str | None:
        """Say that its leader is about to be reaped.

        Gives why the guardian has ended the attempt; None if it has not.
        """
        return self._trees.remove(self._group.pid, self._place)

    def _look(self) -> bool:
        """Find its members; False if the last look at all processes was before it was added."""
        table = self._trees.look()
        orphans = self._trees.orphans(table)
        self._known = table.members(self._group.pid, self.mark, orphans, self._known)
        return table.get(self._group.pid) is not None


class Trees:
    """All trees of a worker."""

    def __init__(
        self, agent: str, name: str, link: Link, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`agent` is the id that the environment of all its tasks' processes names.

        `name` is the agent's for people.
        """
        self._agent = agent.encode()
        self._name = name
        self._link = link
        self._clock = clock
        self._adopts = linux.adopts_orphans()
        # Of our own helpers, as a `docker rm`. No task's process can get into it.
        self._session = os.getsid(0)
        self._standing: dict[int, Tree] = {}  # by leader
        self._table = Table(())
        self._looked_s = -math.inf
        self._cost_s = 0.0
        self._work_s = 0.0  # of the processor: a busy machine makes a look longer, not dearer
        self._due = False
        self._sweep_at_s = -math.inf

    def mark(self, task: int, attempt: int) -> Mark:
        """What the environment of an attempt's processes has to say."""
        return Mark.of(self._agent, task, attempt)

    def add(self, leader: int, mark: Mark, *, exclusive: bool, shielded: bool = False) -> Tree:
        """Note that an attempt's first process has started; it leads a session.

        The processes of a `shielded` one are killed when the first one ends, however it does.
        """
        place = self._link.add(leader, int(mark.task), int(mark.attempt), exclusive=exclusive)
        self._standing[leader] = tree = Tree(self, leader, mark, place, shielded=shielded)
        return tree

    def remove(self, leader: int, place: int) -> str | None:
        """Forget a tree, and look soon for what is left of it; see `Tree.close`."""
        del self._standing[leader]
        self._due = True
        if not self._link.remove(place):
            return None
        return f"agent {self._name} was stopped, and others may have this exclusive task by now"

    def tick(self) -> None:
        """Reap what was adopted and has ended; kill what belongs to nobody, when it is time."""
        if not self._adopts:
            return
        self._due |= not self._reap()
        if self._due and self._clock() >= self._sweep_at_s:
            self._sweep()
            self._sweep_at_s = self._clock() + self._work_s / _SHARE

    def end(self) -> None:
        """When no attempt runs any more: see the last processes out, for two seconds at most."""
        until_s = self._clock() + _LAST_S
        with contextlib.suppress(ChildProcessError):  # there is no child left
            while self._adopts and self._clock() < until_s:
                linux.ended_child()
                self._sweep()
                time.sleep(_LAST_PAUSE_S)

    def look(self) -> Table:
        """Look at all processes, unless the last look was only just now.

        So hundreds of attempts that are cancelled at once do not take all the time.
        """
        began_s = self._clock()
        if began_s >= self._looked_s + self._cost_s:
            worked_s = time.thread_time()
            self._table = read()
            self._work_s = time.thread_time() - worked_s
            self._looked_s = self._clock()
            # A worker that was stopped inside one for 11 s believed what it saw for another 11 s:
            # nothing that its tasks had left was ended meanwhile.
            self._cost_s = min(self._looked_s - began_s, _COST_MOST_S)
        return self._table

    def orphans(self, table: Table) -> list[Seen]:
        """List our children that are no leaders: adopted ones."""
        return [seen for seen in table.children(os.getpid()) if seen.pid not in self._standing]

    def _reap(self) -> bool:
        """Reap adopted processes that have ended; False where a leader hides the next ones."""
        with contextlib.suppress(ChildProcessError):
            while (ended := linux.ended_child()) is not None:
                if ended in self._standing:
                    return False
                os.waitpid(ended, 0)
        return True

    def _sweep(self) -> None:
        table = self.look()
        leaders = [seen for leader in self._standing if (seen := table.get(leader)) is not None]
        first = min((leader.started for leader in leaders), default=math.inf)
        marks = {tree.mark for tree in self._standing.values()}
        self._due = False
        for orphan in self.orphans(table):
            if not orphan.running:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(orphan.pid, os.WNOHANG)
            elif orphan.session not in {self._session, *self._standing} and (
                orphan.started < first or self._is_over(table.mark(orphan), marks)
            ):
                for seen in table.below([orphan]).values():
                    self._due |= seen.send(signal.SIGKILL)

    def _is_over(self, mark: Mark | None, marks: set[Mark]) -> bool:
        """Tell whether the attempt of a mark has ended; no mark of ours tells nothing."""
        return mark is not None and mark.agent == self._agent and mark not in marks
