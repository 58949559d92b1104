"""Any order of what agents, people, reapers and faults do, beside a model of what must follow."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
import uvloop
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, multiple, precondition, rule, run_state_machine_as_test

from api.reaper import Reaper
from tests.api.lease.agents import BROKEN, ENDINGS, Ending, Piece
from tests.api.lease.facts import PULLED, REAPER_S, Lease, Session, Task
from tests.api.lease.faults import Faults
from tests.api.lease.machine import INSTANCES, PAUSE_S, Machine, at_any, some_leases
from tests.api.lease.world import Stage

_MOST_SESSIONS = 5
_MOST_TASKS = 12

_labels = st.sampled_from([("a", "b"), ("a",), ("b",), ()])
_needs = st.sampled_from([(), ("a",), ("b",), ("a", "b"), ()])
_streams = st.sampled_from(["stdout", "stderr"])
_how = st.sampled_from(list(ENDINGS))
_pieces = st.builds(
    Piece, Machine.leases, _streams, st.sampled_from([0, 3]),
    st.sampled_from([b"abc", b"abd", b"longer", BROKEN]), st.booleans(),
)  # fmt: skip
_predecessor = st.one_of(st.none(), st.none(), Machine.sessions)


def _have_room(machine: Machine) -> bool:
    """More tasks and sessions would only keep the rest from meeting."""
    alive = [each for each in machine.model.sessions.values() if not each.ended]
    return len(alive) < _MOST_SESSIONS and len(machine.model.tasks) < _MOST_TASKS


def _runs(task: Task) -> bool:
    return task.status == "in_progress"


def _ran(task: Task) -> bool:
    return task.attempt > 0


def _ran_again(task: Task) -> bool:
    return task.attempt > 1


def _holds(session: Session) -> bool:
    return bool(session.holds)


def _any_task(like: Callable[[Task], bool]) -> Callable[[Machine], bool]:
    return lambda machine: any(map(like, machine.model.tasks.values()))


class LeaseMachine(Faults):
    """What may happen: see also its faults."""

    # People

    @initialize(target=Machine.tasks, needs=_needs, max_attempts=st.integers(1, 3))
    def begin(self, needs: tuple[str, ...], **fields: Any) -> Any:
        """There is something to do."""
        return self.submit(0, 3, needs, priority=5, exclusive=False, later=False, **fields)

    @precondition(_have_room)
    @rule(
        target=Machine.tasks, at=at_any, count=st.integers(1, 3), needs=_needs,
        priority=st.sampled_from([5, 9, 0]), max_attempts=st.integers(1, 3),
        exclusive=st.booleans(), later=st.sampled_from([False, False, False, True]),
    )  # fmt: skip
    def submit(self, at: int, count: int, needs: tuple[str, ...], **fields: Any) -> Any:
        """Hand over tasks, for now or for later."""
        return multiple(*self.do(self.people.submit(at, count, needs=needs, **fields)))

    @rule(at=at_any, task=Machine.tasks, how=st.sampled_from(["see", "send", "send another"]))
    def look(self, at: int, task: Task, how: str) -> None:
        """See a task with its attempts; or hand it over once more, or another under its key."""
        if how == "see":
            self.do(self.people.look(at, task))
        else:
            self.do(self.people.submit_again(at, task, changed=how == "send another"))

    @rule(at=at_any, task=Machine.tasks, what=st.sampled_from(["cancel", "retry"]))
    def wish(self, at: int, task: Task, what: str) -> None:
        """Wish the end of a task, or to run it again, whatever it is at."""
        self.do(self.step_of(what, at, task))

    @precondition(_any_task(_runs))
    @rule(at=at_any, task=Machine.tasks.filter(_runs))
    def cancel(self, at: int, task: Task) -> None:
        """Wish the end of a task that runs."""
        self.do(self.people.cancel(at, task))

    @precondition(_any_task(_ran))
    @rule(at=at_any, task=Machine.tasks.filter(_ran), more=st.sampled_from([0, -1, 1]))
    def retry(self, at: int, task: Task, more: int) -> None:
        """Run a task again, after its newest attempt or another one."""
        self.do(self.people.retry(at, task, task.attempt + more))

    # Agents

    @initialize(target=Machine.sessions)
    def arrive(self) -> Any:
        """There is somebody to do it."""
        return multiple(*(self.do(self.agents.open(at, ("a", "b"), None)) for at in (0, 1)))

    @precondition(_have_room)
    @rule(target=Machine.sessions, at=at_any, labels=_labels, replaces=_predecessor)
    def open(self, at: int, labels: tuple[str, ...], replaces: Session | None) -> Any:
        """Start a session, maybe in the place of another one."""
        return self.do(self.agents.open(at, labels, replaces))

    @rule(
        target=Machine.leases, at=at_any, session=Machine.sessions, slots=st.integers(1, 3),
        ahead=st.integers(0, 2), lost=st.booleans(),
    )  # fmt: skip
    def claim(self, at: int, session: Session, **wanted: Any) -> Any:
        """Take tasks; the reply may be lost."""
        self.run(self.world.settle())
        return multiple(*self.do(self.agents.claim(at, session, **wanted)))

    @rule(
        target=Machine.leases, at=at_any, session=Machine.sessions,
        shares=st.lists(st.tuples(st.integers(1, 2), st.integers(0, 2)), min_size=2, max_size=3),
    )  # fmt: skip
    def claim_together(self, at: int, session: Session, shares: list[tuple[int, int]]) -> Any:
        """Take tasks in the same moment as others with the same labels."""
        alike = [
            each
            for each in self.model.sessions.values()
            if each.labels == session.labels and not (each.ended or each.silent)
        ]
        if not alike:
            return multiple()
        for each in alike:
            self.do(self.agents.beat(at, each, None, None))  # so that nobody needs to be looked up
        self.run(self.world.settle())
        wanted = [(each, *share) for each, share in zip(alike, shares, strict=False)]
        return multiple(*self.do(self.agents.claim_together(at, wanted)))

    @precondition(some_leases)
    @rule(
        target=Machine.leases, at=at_any, session=Machine.sessions,
        named=st.sampled_from(["all", "some", "none", "null"]),
        others=st.lists(Machine.leases, max_size=2), knows=st.booleans(),
    )  # fmt: skip
    def beat(
        self, at: int, session: Session, named: str, others: list[Lease], *, knows: bool
    ) -> Any:
        """Name what is held: all, not all, also what is no longer owned; or do not tell."""
        holds = sorted(lease.held for lease in session.holds)
        cut = {"all": holds, "some": holds[1:], "none": []}.get(named)
        held = None if cut is None else sorted({*cut, *(lease.held for lease in others)})
        known = holds if knows else None
        return multiple(*self.do(self.agents.beat(at, session, held, known)))

    @precondition(lambda machine: any(map(_holds, machine.model.sessions.values())))
    @rule(at=at_any, session=Machine.sessions.filter(_holds), how=_how)
    def finish(self, at: int, session: Session, how: str) -> None:
        """Report all that an agent holds."""
        holds = sorted(session.holds, key=lambda lease: lease.held)
        self.do(self.agents.report(at, session, [], [Ending(lease, how) for lease in holds]))

    @precondition(_any_task(_ran_again))
    @rule(at=at_any, task=Machine.tasks.filter(_ran_again), back=st.integers(1, 2), how=_how)
    def finish_late(self, at: int, task: Task, back: int, how: str) -> None:
        """Report an attempt that is not the newest one."""
        lease = self.model.leases.get((task.id, task.attempt - back))
        if lease is not None and lease.owner != PULLED:
            session = self.model.sessions[lease.owner]
            self.do(self.agents.report(at, session, [], [Ending(lease, how)]))

    @precondition(some_leases)
    @rule(
        at=at_any, session=st.none() | Machine.sessions, pieces=st.lists(_pieces, max_size=3),
        endings=st.lists(st.builds(Ending, Machine.leases, _how), max_size=2), twice=st.booleans(),
    )  # fmt: skip
    def report(
        self, at: int, session: Session | None, pieces: list[Piece], endings: list[Ending], *,
        twice: bool,
    ) -> None:  # fmt: skip
        """Report anything of any attempt, through its own session or another one."""
        named = [each.lease for each in pieces] + [each.lease for each in endings]
        if session is None and named:
            session = self.model.sessions[named[0].owner]
        if session is not None:
            once = list({each.lease: each for each in endings}.values())
            self.do(self.agents.report(at, session, pieces, once * (1 + twice)))

    # Legacy agents

    @rule(
        at=at_any, task=Machine.tasks, stream=_streams, index=st.integers(0, 1),
        what=st.sampled_from(["pull", "pull", "one", "two", "succeeded", "failed", "nothing"]),
    )  # fmt: skip
    def hear(self, at: int, task: Task, what: str, **batch: Any) -> None:
        """Pull a task; or hear lines, the end, or nothing of one, whoever has it now."""
        if what == "pull":
            self.run(self.world.settle())
            self.do(self.people.pull(at))
        elif what == "nothing":
            self.let_be_quiet(task)
        elif what in {"one", "two"}:
            self.do(self.people.log(at, task, content=what, **batch))
        else:
            self.do(self.people.status(at, task, what))

    # Time

    @rule(
        at=at_any, session=Machine.sessions,
        what=st.sampled_from(["silence", "pause", "goodbye", "death", "drain"]),
    )  # fmt: skip
    def leave(self, at: int, session: Session, what: str) -> None:
        """Hear nothing of a session, or of all for a while; or of its end; or let it drain."""
        if what == "drain":
            self.do(self.people.drain(at, session.agent))
        elif what in {"goodbye", "death"}:
            self.do(self.agents.close(at, session, dead=what == "death"))
        else:
            self.let_expire(session)
        if what == "pause":
            self.let_tick(at, PAUSE_S)

    @rule(at=at_any, what=st.sampled_from(["tick", "due", "renew"]))
    def work(self, at: int, what: str) -> None:
        """An instance looks for dead sessions, queues what is due, or renews whom it has heard."""
        if what == "tick":
            self.let_tick(at, REAPER_S)
        elif what == "due":
            self.let_be_due(at, 2)
        else:
            self.run(self.world.renew(at))
            self.model.renew(at)


async def _rest(_: Reaper) -> None:
    await asyncio.Event().wait()


_budget = settings(
    print_blob=True,
    max_examples=settings().max_examples * 3 // 5,  # one takes some 0.2 s
)  # fmt: skip


@pytest.mark.timeout(0)  # each step has a deadline, and a failure is made small for minutes
def test_two_instances_keep_to_the_model(
    database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever meets whatever: one attempt counts, no wish is forgotten, all comes to an end."""
    caplog.set_level(logging.ERROR, "api")  # sessions are lost all the time
    monkeypatch.setattr(Reaper, "run", _rest)  # reapers look, and
    monkeypatch.setattr("api.sessions._RENEW_S", float("inf"))  # sessions are renewed, when told
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        loop = runner.get_loop()  # each run() of a Runner takes 0.5 ms to guard against Ctrl-C
        stage = Stage(database_url, INSTANCES)
        loop.run_until_complete(stage.open())
        try:
            run_state_machine_as_test(
                lambda: LeaseMachine(loop, stage),  # type: ignore[arg-type]  # takes it as well
                settings=_budget,
            )
        finally:
            loop.run_until_complete(stage.close())
