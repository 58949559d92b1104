"""The state machine without its rules: it plays steps, compares, and heals in the end."""

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant

from schema.tasks import FINAL, Status
from tests.api.lease.agents import Agents, Ending, Piece
from tests.api.lease.facts import LEASE_S, PULLED, REAPER_S, Lease, Session, Task
from tests.api.lease.model import Model
from tests.api.lease.people import People
from tests.api.lease.world import DEADLINE_S, Stage, Step, World

T = TypeVar("T")

INSTANCES = 2
PAUSE_S = 2 * REAPER_S + LEASE_S
"""After so long a reaper waits a whole lease before it calls anybody dead."""

at_any = st.integers(0, INSTANCES - 1)


class Machine(RuleBasedStateMachine):
    """Instances over one database, and the model of both."""

    sessions: Bundle[Session] = Bundle("sessions")
    tasks: Bundle[Task] = Bundle("tasks")
    leases: Bundle[Lease] = Bundle("leases")

    def __init__(self, loop: asyncio.AbstractEventLoop, stage: Stage) -> None:
        super().__init__()
        self._loop = loop
        self.model = Model(INSTANCES)
        self.world = World(stage)
        self.agents = Agents(self.model, self.world)
        self.people = People(self.model, self.world)
        self._last_place = 0
        self.run(self.world.start())
        for at in range(INSTANCES):
            self.let_tick(at, 0)

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        """Let the instances work until the call is done."""

        async def in_time() -> T:
            async with asyncio.timeout(DEADLINE_S):
                return await call

        return self._loop.run_until_complete(in_time())

    def do(self, step: Step) -> Any:
        """Take one step; what its check returns."""
        return step.check(self.run(step.call))

    def let_tick(self, at: int, after_s: float) -> None:
        """A reaper looks, so long after its last look."""
        self.do(self._tick(at, after_s, alone=True))

    def let_expire(self, session: Session) -> None:
        """Two leases pass without a word of a session."""
        self.run(self.world.expire(session))
        self.model.expire(session)

    def let_be_quiet(self, task: Task) -> None:
        """Two leases pass without a word of a task, if it is in the hands of a legacy agent."""
        if task.status == "in_progress" and task.owner == PULLED:
            self.run(self.world.quiet(task.id, task.attempt))
            task.quiet = True

    def let_be_due(self, at: int, most: int) -> None:
        """The time of some scheduled tasks has come."""
        for task in self._in("scheduled")[:most]:
            self.run(self.world.promote(at, task.id))
            self.model.promote(task)

    def step_of(self, what: str, at: int, task: Task, *, alone: bool = True) -> Step:
        """Something that may happen to a task, by its name; where it cannot, a cancellation.

        `alone`: no other reaper is at it.
        """
        if what == "tick":
            return self._tick(at, REAPER_S, alone=alone)
        if what == "retry":
            return self.people.retry(at, task, None)
        if what == "status":
            return self.people.status(at, task, "succeeded")
        lease = self.model.leases.get((task.id, task.attempt - (what == "late")))
        if what == "cancel" or lease is None or lease.owner == PULLED:
            return self.people.cancel(at, task)
        endings = [Ending(lease, "success" if what == "late" else what)]
        pieces = [Piece(lease, "stdout", 0, b"abc", resent=False)]
        return self.agents.report(at, self.model.sessions[lease.owner], pieces, endings)

    def _tick(self, at: int, after_s: float, *, alone: bool) -> Step:
        def check(_: None) -> None:
            self.model.tick(at, after_s, alone=alone)

        return Step(self.world.tick(at, after_s), check)

    @invariant()
    def agree(self) -> None:
        """The database is as the model says; a place in the queue changes by drawing only."""
        rows, places = self.run(self.world.rows())
        wanted = self.model.rows()
        wrong = {
            (table, key): (rows[table].get(key), wanted[table].get(key))
            for table in wanted
            for key in rows[table].keys() | wanted[table].keys()
            if rows[table].get(key) != wanted[table].get(key)
        }
        assert not wrong, f"(in the database, in the model): {wrong}"
        for task in self.model.tasks.values():
            if task.place is None:
                assert places[task.id] > self._last_place
            else:
                assert places[task.id] == task.place
            task.place = places[task.id]
        self._last_place = max([self._last_place, *places.values()])

    def teardown(self) -> None:
        """Nothing is for ever: all that is left comes to its end, unless something failed."""
        try:
            if sys.exc_info()[0] is None:
                self._heal()
        finally:
            self.run(self.world.stop())

    def _heal(self) -> None:
        """Every second session lost its memory and lives, the others are silent for ever."""
        for number, session in enumerate(list(self.model.sessions.values())):
            if number % 2 or session.ended or session.silent:
                self.let_expire(session)
            else:
                again = self.do(self.agents.beat(0, session, [], None))
                self._succeed(0, session, again)
        for task in self.model.tasks.values():
            self.let_be_quiet(task)
        for _ in range(2):  # the first look may be a patient one
            self.let_tick(1, REAPER_S)
        self.agree()
        assert not self._in("in_progress")
        worker = self.do(self.agents.open(1, ("a", "b"), None))
        self.let_be_due(0, len(self.model.tasks))
        self.agree()
        while self._in("pending"):
            self._succeed(1, worker, self.do(self.agents.claim_at_last(1, worker)))
            self.agree()
        for task in self.model.tasks.values():
            assert task.status in FINAL
            newest = {task.attempt} if task.started else set()
            assert {*task.past, *newest} == set(range(1, task.attempt + 1))
        self.do(self.people.count(0))

    def _succeed(self, at: int, session: Session, leases: list[Lease]) -> None:
        endings = [Ending(lease, "success") for lease in leases]
        self.do(self.agents.report(at, session, [], endings))

    def _in(self, status: Status) -> list[Task]:
        return [task for task in self.model.tasks.values() if task.status == status]


def some_leases(machine: Machine) -> bool:
    """Whether any were given away, and their replies were not lost."""
    return bool(machine.bundle("leases"))
