"""What the lease protocol promises, in memory: what a request changes, and what it is answered.

It says what docs/design.md says; tests/api/test_lease_model.py compares the code with it. Instances
are the API processes, 0 and 1: what one of them remembers of a session is all that it does not ask
the database for.
"""

import zlib
from collections.abc import Iterable, Iterator
from typing import Any

from schema.reports import VerdictName
from schema.sessions import Held
from schema.tasks import FINAL, Reason, Status
from tests.api.lease.facts import (
    CRASH_LIMIT,
    LEASE_S,
    PULLED,
    REAPER_S,
    ChunkKey,
    Lease,
    Past,
    Rows,
    Session,
    Task,
    Ticks,
)


class Model:
    """All tasks, sessions and log chunks of a database."""

    def __init__(self, instances: int) -> None:
        self.tasks: dict[int, Task] = {}
        self.sessions: dict[int, Session] = {}
        self.leases: dict[Held, Lease] = {}
        self.chunks: dict[ChunkKey, bytes] = {}
        self.locked: set[int] = set()
        """Tasks that a claim has taken which is not committed yet."""
        self._ticks = [Ticks() for _ in range(instances)]

    # Sessions

    def open(self, at: int, session: Session, replaces: Session | None) -> None:
        """A new one; its predecessor is over."""
        if replaces is not None:
            replaces.ended = replaces.ended or "replaced"
            _forget(at, replaces)
        self.sessions[session.number] = session
        session.known[at] = False

    def hear(self, at: int, session: Session) -> bool:
        """Whether an instance takes a request: only if it is unsure it asks the database."""
        if session.known.get(at, True):
            if session.ended:
                _forget(at, session)
                return False
            session.known[at] = session.silent
        session.heard.add(at)
        return True

    def close(self, at: int, session: Session, reason: str) -> None:
        """It says goodbye, or another agent does that found it dead."""
        session.ended = session.ended or reason
        _forget(at, session)

    def expire(self, session: Session) -> None:
        """Time passes, in which no renewal of it was committed."""
        session.silent = True
        session.known = dict.fromkeys(session.known, True)

    def renew(self, at: int) -> None:
        """An instance tells the database of whom it has heard."""
        for session in self.sessions.values():
            if at in session.heard:
                session.heard.discard(at)
                if session.ended:
                    _forget(at, session)
                else:
                    session.silent = session.known[at] = False

    # Claims

    def best(self, labels: Iterable[str], most: int) -> list[Task]:
        """What a claim takes, in order."""
        fit = [
            task
            for task in self.tasks.values()
            if task.status == "pending" and task.needs <= set(labels)
        ]
        fit.sort(key=lambda task: (-task.priority, task.place or 0))
        return [task for task in fit if task.id not in self.locked][:most]

    def claim(self, task: Task, owner: int, lease: str = "") -> Lease:
        """One task changes hands."""
        assert task.status == "pending", task
        task.status, task.owner = "in_progress", owner
        task.started, task.quiet = True, False
        task.attempt += 1
        given = Lease(task.id, task.attempt, owner, lease)
        assert given.held not in self.leases, "an attempt was given away twice"
        self.leases[given.held] = given
        return given

    def owned(self, owner: int) -> list[Task]:
        """What the database holds for a session."""
        return [
            task
            for task in self.tasks.values()
            if task.status == "in_progress" and task.owner == owner
        ]

    # Endings

    def end(self, lease: Lease, outcome: str, reason: Reason) -> bool:
        """An attempt ends in this way, if it is the one that counts."""
        task = self.tasks[lease.task]
        if (task.status, task.attempt, task.owner) != ("in_progress", lease.attempt, lease.owner):
            return False
        status = self._after(task, outcome)
        if status in FINAL:
            task.status, task.reason = status, "cancelled" if status == "cancelled" else reason
            return True
        task.past[task.attempt] = Past(lease.owner, reason, "failed")
        task.failures += outcome == "failed"
        task.crashes += outcome in {"lost", "unstarted"}
        task.status, task.owner, task.started = status, None, False
        if status == "pending" and outcome != "returned":
            task.place = None
        return True

    @staticmethod
    def _after(task: Task, outcome: str) -> Status:
        spent = task.failures + 1 >= task.max_attempts
        if outcome in {"lost", "unstarted"}:
            spent = task.crashes + 1 >= CRASH_LIMIT
        again: dict[str, Status] = {
            "failed": "scheduled", "unstarted": "scheduled", "lost": "pending",
            "returned": "pending",
        }  # fmt: skip
        if outcome == "succeeded":
            return "succeeded"
        if outcome == "cancelled" or (task.cancelled and outcome != "failed"):
            return "cancelled"
        if task.cancelled or (spent and outcome != "returned"):
            return "failed"
        return again[outcome]

    def ended_as(self, lease: Lease, reason: Reason) -> bool:
        """Whether this attempt has ended for that reason."""
        task = self.tasks[lease.task]
        past = task.past.get(lease.attempt)
        if past is not None:
            return (past.owner, past.reason) == (lease.owner, reason)
        newest = (task.attempt, task.owner, task.reason) == (lease.attempt, lease.owner, reason)
        return newest and task.status in FINAL

    def store(self, key: ChunkKey, data: bytes) -> VerdictName:
        """A chunk of log: whose attempt it is was settled when the lease was given."""
        if key in self.chunks:
            return "duplicate" if self.chunks[key] == data else "conflict"
        self.chunks[key] = data
        if (task := self.tasks[key[0]]).attempt == key[1]:
            task.quiet = False
        return "ok"

    def tick(self, at: int, after_s: float, *, alone: bool = True) -> None:
        """An instance's reaper looks, so long after its last look.

        `alone`: no other one is at it.
        """
        ticks = self._ticks[at]
        ticks.now_s += after_s
        if ticks.last_s is None or after_s > REAPER_S + LEASE_S / 3:
            ticks.patient_until_s = ticks.now_s + LEASE_S
        ticks.last_s = ticks.now_s
        if not alone:
            return
        if ticks.now_s >= ticks.patient_until_s:
            for session in self.sessions.values():
                if session.silent and not session.ended:
                    session.ended = "lost"
        for task in list(self.tasks.values()):
            if task.status == "in_progress":
                lease = self.leases[task.id, task.attempt]
                if task.owner == PULLED and task.quiet:
                    self.end(lease, "failed", "agent_lost")
                elif task.owner and self.sessions[task.owner].ended:
                    self.end(lease, "lost", "agent_lost")

    # People

    def drain(self, agent: str) -> int:
        """Agents of that name shall come to their end; how many live."""
        named = [each for each in self.sessions.values() if each.agent == agent and not each.ended]
        for session in named:
            session.drain = True
        return len(named)

    def cancel(self, task: Task) -> None:
        """Who can be asked is asked to end it; else it ends at once."""
        if task.status in FINAL:
            return
        task.cancelled = True
        if not task.owner:
            task.status, task.reason = "cancelled", "cancelled"

    def retry(self, task: Task, after: int | None) -> bool:
        """Whether a person's wish to run it again is granted, now or before."""
        if task.status in FINAL and after in {None, task.attempt}:
            if task.started:
                assert task.owner is not None
                assert task.reason is not None
                task.past[task.attempt] = Past(task.owner, task.reason, task.status)
            task.status, task.place, task.owner, task.reason = "pending", None, None, None
            task.failures = task.crashes = 0
            task.started = task.cancelled = False
            return True
        waits = task.status in {"pending", "scheduled"}
        return after is not None and (task.attempt > after or (task.attempt == after and waits))

    def promote(self, task: Task) -> None:
        """Its time has come."""
        task.status, task.place = "pending", None

    # The compatible routes, where a task's number is all that an agent shows

    def pulled(self, task: Task) -> tuple[Lease, Status] | None:
        """The attempt that such an agent means: the newest one, if it was pulled; how it is."""
        past = task.past.get(task.attempt)
        owner, status = task.owner, task.status
        if past is not None:
            owner, status = past.owner, past.status
        return (self.leases[task.id, task.attempt], status) if owner == PULLED else None

    def rows(self) -> Rows:
        """What the database must hold, but for places in the queue."""
        return {
            "tasks": {task.id: _row(task) for task in self.tasks.values()},
            "attempts": {
                (task.id, attempt): (past.owner or None, past.reason)
                for task in self.tasks.values()
                for attempt, past in task.past.items()
            },
            "sessions": {
                each.number: (each.ended, each.silent, each.drain)
                for each in self.sessions.values()
            },
            "chunks": {key: (len(data), zlib.crc32(data)) for key, data in self.chunks.items()},
        }


def deal(wanted: list[tuple[int, int]], tasks: list[Task]) -> Iterator[tuple[int, Task]]:
    """Who of those that ask together, for (slots, ahead) each, is given what: free slots first."""
    turns = [
        (ahead, turn, number)
        for number, shares in enumerate(wanted)
        for ahead, share in enumerate(shares)
        for turn in range(share)
    ]
    return zip((number for _, _, number in sorted(turns)), tasks, strict=False)


def _forget(at: int, session: Session) -> None:
    session.known.pop(at, None)
    session.heard.discard(at)


def _row(task: Task) -> tuple[Any, ...]:
    return (
        task.status, task.attempt, task.owner or None, task.failures, task.crashes, task.cancelled,
        task.reason, task.started, task.status in FINAL,
    )  # fmt: skip
