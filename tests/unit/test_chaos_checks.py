"""The rules of a campaign: each finds what was planted for it, and lets pass what may happen."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from loadtest.chaos import checks
from loadtest.chaos.case import Case
from loadtest.chaos.evidence import Evidence, attempts_of
from loadtest.chaos.happened import EVERYBODY, History
from loadtest.chaos.journal import Run
from loadtest.chaos.limits import CRASH_LIMIT, LEASE_S
from loadtest.chaos.scripts import Script
from loadtest.record import Violation
from schema.tasks import Attempt, Status, Task

Rule = Callable[[Evidence], Iterator[Violation]]


def attempt(number: int, reason: str, code: int | None = None, **more: Any) -> Attempt:
    """Make an attempt of agent `a` that took the second of its number, twenty seconds each."""
    fields: dict[str, Any] = {
        "agent": "a",
        "exit_code": code,
        "started_at": at(20 * number),
        "finished_at": at(20 * number + 10),
    }
    return Attempt(attempt=number, reason=reason, **(fields | more))  # type: ignore[arg-type]  # a literal


def at(seconds: float) -> datetime:
    """Give a time of the database's clock, which shows what the boot clock does."""
    return datetime.fromtimestamp(seconds, UTC)


def run(start_s: float, last_s: float, code: int | None = None, **more: Any) -> Run:
    """Make what the processes of an attempt wrote down."""
    fields: dict[str, Any] = {"agent": "a", "starts": [77], "last_s": last_s, "code": code}
    return Run(start_s=start_s, **(fields | more))


def evidence(
    status: Status,
    *attempts: Attempt,
    runs: dict[int, Run] | None = None,
    history: History | None = None,
    case: dict[str, Any] | None = None,
    **script: Any,
) -> Evidence:
    """Put together what is known of task 5."""
    fields: dict[str, Any] = {"number": 0, "kind": "writer", "seed": 1}
    task = Task(
        id=5,
        status=status,
        command="true",
        priority=5,
        max_attempts=script.get("max_attempts", 1),
        attempt=attempts[-1].attempt if attempts else 0,
        submitted_at=at(0),
    )
    known = Case(Script(**(fields | script)), id=5, **(case or {}))
    return Evidence(known, task, attempts, runs or {}, history or History(), datetime.timestamp)


def found(rule: Rule, known: Evidence) -> list[str]:
    """Names of what a rule finds."""
    return [violation.rule for violation in rule(known)]


def happened(kind: str, began_s: float, ended_s: float, whom: str = "a") -> History:
    """One fault."""
    history = History()
    history.begin(kind, whom, whom, began_s).ended_s = ended_s
    return history


LOST = attempt(1, "agent_lost")


@pytest.mark.parametrize(
    "known",
    [
        evidence("succeeded", attempt(1, "exit", 0)),
        evidence("failed", attempt(1, "exit", 3)),
        evidence("failed", attempt(1, "timeout")),
        evidence("failed", attempt(1, "exit", 3), attempt(2, "signal"), max_attempts=2),
        evidence("succeeded", attempt(1, "exit", 3), attempt(2, "exit", 0), max_attempts=2),
        evidence("succeeded", LOST, attempt(2, "returned"), attempt(3, "exit", 0)),
        evidence("failed", LOST, attempt(2, "exit", 1)),
        evidence("failed", *(attempt(n + 1, "agent_lost") for n in range(CRASH_LIMIT))),
        evidence("cancelled", case={"cancel_asked": True, "cancelled_at": 0}),
        evidence("cancelled", attempt(1, "cancelled"), case={"cancel_asked": True}),
        evidence("cancelled", LOST, case={"cancel_asked": True, "cancelled_at": 1}),
        evidence("succeeded", attempt(1, "exit", 0), case={"cancel_asked": True}),
        evidence(
            "failed", attempt(1, "exit", 3), case={"cancelled_at": 1}, max_attempts=3
        ),  # its result came first
        evidence("succeeded", attempt(1, "exit", 0), attempt(2, "exit", 0), case={"retries": {1}}),
        evidence("failed", attempt(1, "exit", 1), attempt(2, "exit", 1), case={"retries": {1}}),
    ],
)
def test_what_may_become_of_a_task(known: Evidence) -> None:
    """As the table in the design says."""
    assert found(checks.ended, known) == []


@pytest.mark.parametrize(
    ("known", "rule"),
    [
        (evidence("pending", LOST), "not over"),
        (evidence("in_progress", attempt(1, "exit", 0)), "not over"),
        # A doubled result: both attempts count.
        (evidence("succeeded", attempt(1, "exit", 0), attempt(2, "exit", 0)), "ran again"),
        (evidence("succeeded", attempt(1, "cancelled"), attempt(2, "exit", 0)), "ran again"),
        (evidence("failed", attempt(1, "exit", 1), attempt(2, "exit", 1)), "ran again"),
        (evidence("succeeded", attempt(2, "exit", 0)), "ran again"),
        (evidence("succeeded", attempt(1, "exit", 1), attempt(1, "exit", 0)), "ran again"),
        (evidence("succeeded", LOST, attempt(2, "exit", 0), case={"cancelled_at": 1}), "ran again"),
        (evidence("succeeded", attempt(1, "exit", 0), case={"cancelled_at": 0}), "ran again"),
        # One that only lost machines did not fail.
        (evidence("failed", LOST), "ended wrongly"),
        (evidence("failed", attempt(1, "exit", 0)), "ended wrongly"),
        (evidence("succeeded", attempt(1, "exit", 3)), "ended wrongly"),
        (evidence("failed", attempt(1, "exit", 3), max_attempts=2), "ended wrongly"),
        (
            evidence("cancelled", attempt(1, "exit", 0), case={"cancel_asked": True}),
            "ended wrongly",
        ),
        (evidence("cancelled", LOST), "ended wrongly"),
    ],
)
def test_what_must_not_become_of_a_task(known: Evidence, rule: str) -> None:
    """Each for one cause."""
    assert found(checks.ended, known) == [rule]


@pytest.mark.parametrize(
    "known",
    [
        evidence("succeeded", attempt(1, "exit", 0), runs={1: run(1, 2, 0)}),
        evidence("succeeded", LOST, attempt(2, "exit", 0), runs={1: run(1, 2, 0), 2: run(3, 4, 0)}),
        evidence("succeeded", LOST, attempt(2, "exit", 0), runs={2: run(3, 4, 0)}),
        evidence("failed", attempt(1, "signal", signal=9), runs={1: run(1, 2)}, dies=9),
        evidence("failed", attempt(1, "timeout"), runs={1: run(1, 2)}, timeout=1.0),
        evidence("cancelled", attempt(1, "cancelled"), case={"cancel_asked": True}),
        evidence(
            "succeeded", attempt(1, "returned"), attempt(2, "exit", 0), runs={2: run(1, 2, 0)}
        ),
    ],
)
def test_ends_that_agree_with_the_journal(known: Evidence) -> None:
    """A loss agrees with everything."""
    assert found(checks.agrees, known) == []


@pytest.mark.parametrize(
    ("known", "rule"),
    [
        (evidence("succeeded", attempt(1, "exit", 0)), "disagrees"),
        (evidence("succeeded", attempt(1, "exit", 0), runs={1: run(1, 2, 3)}), "disagrees"),
        (evidence("succeeded", attempt(1, "exit", 0), runs={1: run(1, 2)}), "disagrees"),
        (evidence("failed", attempt(1, "signal", signal=9), runs={1: run(1, 2)}), "disagrees"),
        (evidence("failed", attempt(1, "timeout"), runs={1: run(1, 2)}), "disagrees"),
        (evidence("cancelled", attempt(1, "cancelled"), runs={1: run(1, 2)}), "disagrees"),
        (evidence("pending", attempt(1, "returned"), runs={1: run(1, 2)}), "disagrees"),
        (
            evidence("succeeded", attempt(1, "exit", 0), runs={1: run(1, 2, 0), 2: run(3, 4, 0)}),
            "disagrees",
        ),
        (
            evidence("succeeded", attempt(1, "exit", 0), runs={1: run(1, 2, 0, agent="b")}),
            "disagrees",
        ),
        (
            evidence("succeeded", attempt(1, "exit", 0), runs={1: run(1, 2, 0, starts=[7, 8])}),
            "claimed twice",
        ),
    ],
)
def test_ends_that_the_journal_knows_otherwise(known: Evidence, rule: str) -> None:
    """Each for one cause."""
    assert found(checks.agrees, known) == [rule]


@pytest.mark.parametrize(
    ("history", "excused"),
    [
        (History(), False),
        (happened("agent's guardian killed", 25, 26), True),
        (happened("agent's guardian killed", 25, 26, "b"), False),
        (happened("agent's guardian killed", 5, 6), False),
        (happened("stalled", 20, 20 + LEASE_S / 2), True),
        (happened("stalled", 20, 20.5), False),
        (happened("API killed", 20, 20 + LEASE_S / 2, EVERYBODY), True),
    ],
)
def test_a_loss_needs_a_cause(history: History, *, excused: bool) -> None:
    """A session that dies of nothing would be a fault of the server's."""
    known = evidence("pending", LOST, history=history)
    assert found(checks.causes, known) == ([] if excused else ["lost causeless"])


@pytest.mark.parametrize(
    ("ended_s", "outage", "late"),
    [
        (21 + LEASE_S, False, False),
        (21 + 2 * LEASE_S, False, True),
        (21 + 2 * LEASE_S, True, False),  # then the reaper waits a whole lease
    ],
)
def test_what_a_killed_agent_ran_is_given_up_when_its_lease_is_over(
    ended_s: float, *, outage: bool, late: bool
) -> None:
    """It is killed a second after the start of its attempt."""
    history = happened("agent killed for long", 21, 40)
    if outage:
        history.begin("API killed", "server-1", EVERYBODY, 20).ended_s = 21.5
    lost = attempt(1, "agent_lost", finished_at=at(ended_s))
    known = evidence("pending", lost, history=history)
    assert found(checks.causes, known) == (["lost late"] if late else [])


def test_an_exclusive_task_is_ended_by_shorter_outages() -> None:
    """Its agent cannot wait for the end of the lease."""
    history = happened("stalled", 20, 20.5)
    assert found(checks.causes, evidence("pending", LOST, history=history, exclusive=True)) == []


def test_a_disk_that_is_full_keeps_tasks_from_starting() -> None:
    """Nothing else may."""
    failed = attempt(1, "spawn_error")
    full = happened("disk full", 15, 25)
    assert found(checks.causes, evidence("pending", failed, history=full)) == []
    assert found(checks.causes, evidence("pending", failed)) == ["lost causeless"]


_TWO = {1: run(20, 32), 2: run(31, 34, 0)}


@pytest.mark.parametrize(
    ("history", "exclusive", "rules"),
    [
        (History(), True, ["overlap"]),
        (History(), False, ["overlap"]),
        (happened("stalled", 20, 20 + LEASE_S), False, []),
        (happened("stalled", 20, 20 + LEASE_S), True, ["overlap"]),
        (happened("agent's guardian killed", 25, 26), False, []),
        (happened("agent's guardian killed", 25, 26), True, ["overlap"]),
        (happened("agent's worker stopped", 22, 35), True, ["overlap"]),
        # Nobody is left that could have ended it.
        (happened("agent killed for long", 22, 30), True, []),
        (happened("agent stopped", 22, 35), True, []),
        # The next one comes before the lease is over, and ends what is left first.
        (happened("agent killed", 25, 26), True, ["overlap"]),
        (happened("agent stopped", 22, 35, "b"), True, ["overlap"]),
    ],
)
def test_two_attempts_at_a_time(history: History, rules: list[str], *, exclusive: bool) -> None:
    """A second between the start of one and the last sign of the other."""
    known = evidence("succeeded", runs=_TWO, history=history, exclusive=exclusive)
    assert found(checks.overlaps, known) == rules


def test_an_overlap_by_what_a_task_left_behind_is_one() -> None:
    """Its own process had ended, its child had not."""
    runs = {1: run(20, 25, 1, left_s=33.0), 2: run(31, 34, 0)}
    known = evidence("succeeded", runs=runs, exclusive=True)
    assert found(checks.overlaps, known) == ["overlap"]
    assert list(checks.overlapping(known)) == [(1, 2, 2.0)]


def test_attempts_one_after_the_other_do_not_overlap() -> None:
    """However closely they follow."""
    runs = {1: run(20, 31), 2: run(31, 34, 0)}
    assert found(checks.overlaps, evidence("succeeded", runs=runs, exclusive=True)) == []


@pytest.mark.parametrize(
    ("one", "history", "late"),
    [
        (run(20, 25, 0, left_s=26.0), History(), False),
        (run(20, 25, 0, left_s=40.0), History(), True),
        (run(20, 25, 0, left_s=40.0), happened("agent's worker stopped", 24, 39), False),
        (run(20, 22), happened("agent's guardian killed", 21, 23), False),
        (run(20, 30), happened("agent's guardian killed", 21, 23), True),
        (run(20, 30), happened("agent's guardian killed", 21, 23, "b"), False),
        (run(20, 30), happened("agent's guardian killed", 19, 23), False),  # it is the next one's
        (run(20, 30), happened("agent killed", 21, 28), False),
        (run(20, 40), happened("agent killed", 21, 28), True),
    ],
)
def test_nothing_outlives_its_task_or_its_agent(one: Run, history: History, *, late: bool) -> None:
    """With time for the grace, and for the next agent to start where all of one was killed."""
    known = evidence("succeeded", attempt(1, "exit", 0), runs={1: one}, history=history)
    assert found(checks.outlived, known) == (["outlived"] if late else [])


@pytest.mark.parametrize(
    ("last_s", "history", "late"),
    [
        (35, History(), False),
        (50, History(), True),
        (50, happened("partition, bytes lost", 20, 45), False),
        (60, happened("partition, bytes lost", 20, 45), True),
    ],
)
def test_what_was_given_up_is_ended(last_s: float, history: History, *, late: bool) -> None:
    """As soon as its agent can hear that it lost its session, at 30 s here."""
    known = evidence("pending", LOST, runs={1: run(20, last_s)}, history=history)
    assert found(checks.outlived, known) == (["outlived"] if late else [])


def test_the_newest_attempt_is_one_like_the_others() -> None:
    """A task that waits to run again has it among the earlier ones."""
    shown = Task(
        id=5, status="failed", command="true", priority=5, max_attempts=1, attempt=2,
        submitted_at=at(0), agent="b", reason="exit", exit_code=3, started_at=at(40),
        finished_at=at(50), attempts=(LOST,),
    )  # fmt: skip
    assert [each.agent for each in attempts_of(shown)] == ["a", "b"]
    assert attempts_of(shown)[1].exit_code == 3


def test_all_rules_are_applied() -> None:
    """To one task that breaks most of them."""
    known = evidence(
        "succeeded", LOST, attempt(2, "exit", 0), runs=_TWO | {3: run(60, 61)}, exclusive=True
    )
    rules = {violation.rule for violation in checks.check(known)}
    assert rules == {"lost causeless", "overlap", "disagrees"}
