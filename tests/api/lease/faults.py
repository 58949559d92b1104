"""What goes wrong between two statements: requests that meet at one row, commits that come late."""

from functools import partial
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import multiple, precondition, rule

from api.store.claims import Claimed
from tests.api.lease.facts import Lease, Session
from tests.api.lease.machine import INSTANCES, Machine, at_any, some_leases
from tests.api.lease.world import Step

_meeting = st.sampled_from(
    ["success", "failure", "returned", "late", "cancel", "retry", "tick", "status"]
)


class Faults(Machine):
    """Rules for that."""

    @precondition(some_leases)
    @rule(at=at_any, lease=Machine.leases, first=_meeting, second=_meeting, apart=st.booleans())
    def meet(self, at: int, lease: Lease, first: str, second: str, *, apart: bool) -> None:
        """Two want to change a task in the same moment: the second one sees what the first did."""
        task = self.model.tasks[lease.task]
        if "tick" in {first, second}:
            self.let_be_quiet(task)
            if owner := self.model.sessions.get(task.owner or 0):
                self.let_expire(owner)

        def start(waiting: int) -> Step:
            return self.step_of(first, at, task)

        def follow(waiting: int) -> Step:
            both = first == second == "tick"  # one reaper never looks twice in the same moment
            there = (at + (apart or both)) % INSTANCES
            return self.step_of(second, there, task, alone=not (both and waiting))

        self.run(self.world.meet(partial(self.world.lock, task.id), [start, follow]))

    @rule(
        target=Machine.leases, at=at_any, session=Machine.sessions, other=Machine.sessions,
        most=st.integers(1, 2), lost=st.booleans(),
        then=st.sampled_from(["tick", "close", "cancel", "claim"]),
    )  # fmt: skip
    def claim_late(
        self, at: int, session: Session, other: Session, most: int, then: str, *, lost: bool
    ) -> Any:
        """A third process claims for a session, and commits when more has happened."""
        best = self.model.best(session.labels, most)
        if not best:
            return multiple()
        if then == "tick":
            self.let_expire(session)
        self.model.locked = {task.id for task in best}
        leases: list[Lease] = []
        self.run(self.world.settle())

        def start(_waiting: int) -> Step:
            if then == "close":
                return self.agents.close(at, session, dead=False)
            if then == "claim":
                return self.agents.claim(at, other, 2, 0, lost=True)
            return self.step_of(then, at, best[0])

        def committed(given: list[Claimed]) -> None:
            self.model.locked.clear()
            assert [each.id for each in given] == [task.id for task in best]
            key = self.world.services[at].lease_key
            tasks = [each.for_agent(session.number, key) for each in given]
            leases.extend(self.agents.given(session, tasks, lost=lost))

        hold = partial(self.world.claim, session, most)
        waited = self.run(self.world.meet(hold, [start], committed))
        assert waited == (then == "cancel")  # and nobody else
        return multiple(*leases)
