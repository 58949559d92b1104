"""What must hold of each task, whatever was done to the system meanwhile. Pure.

Compared are what people did, what the server says, what the task's processes wrote down, and which
faults there were. Rules, by their names in findings:

    not over        a task is not final, long after everything was healed
    ended wrongly   its state is not what its attempts lead to
    ran again       an attempt followed another one without cause
    claimed twice   one attempt was started twice
    disagrees       the server says of an attempt what its processes did not do
    lost causeless  an attempt counts as lost, and nothing had happened to its agent
    lost late       its agent was killed, and more than a lease later it still counted as running
    overlap         two attempts ran at a time: never where they are exclusive, else only where
                    the earlier one's agent was cut off, stopped or killed
    outlived        a process ran on after its task, or after its agent
"""

from collections.abc import Iterator

from msgspec import Struct

from loadtest.chaos.case import Case
from loadtest.chaos.evidence import ALL_KILLED, PART_KILLED, SLACK_S, Evidence
from loadtest.chaos.happened import EVERYBODY
from loadtest.chaos.journal import Run
from loadtest.chaos.limits import CRASH_LIMIT, KILL_GRACE_S, LEASE_S, PIPE_WAIT_S, REAPER_S
from loadtest.record import Violation
from schema.tasks import FINAL, Attempt

_GONE_S = KILL_GRACE_S + PIPE_WAIT_S + SLACK_S
"""By then nothing is left of a task that ended."""

_LOST_S = LEASE_S + REAPER_S + SLACK_S
"""By then an agent that was killed is known to be dead."""

_HEARD_S = LEASE_S / 3 + 5
"""By then an agent that nothing cuts off hears that an attempt was given up: it waits up to five
seconds between two tries, and a beat may be parked."""


def check(known: Evidence) -> Iterator[Violation]:
    """Apply all rules to one task."""
    for rule in (ended, agrees, causes, overlaps, outlived):
        yield from rule(known)


class _State(Struct):
    """What attempts have led to so far, as `finish_many` in results.sql has it."""

    status: str = "pending"
    failures: int = 0
    crashes: int = 0

    def end(self, attempt: Attempt, max_attempts: int, *, cancelled: bool) -> None:
        failed = attempt.reason in {"exit", "signal", "timeout"} and attempt.exit_code != 0
        lost = attempt.reason in {"agent_lost", "spawn_error"}
        self.failures += failed
        self.crashes += lost
        if attempt.reason == "exit" and not failed:
            self.status = "succeeded"
        elif failed and (cancelled or self.failures >= max_attempts):
            self.status = "failed"
        elif cancelled or attempt.reason == "cancelled":
            self.status = "cancelled"
        elif lost and self.crashes >= CRASH_LIMIT:
            self.status = "failed"
        else:
            self.status = "pending"


def ended(known: Evidence) -> Iterator[Violation]:
    """Each attempt has a cause in the one before, and what the last one leads to is the state."""
    task, case = known.task, known.case
    if task.status not in FINAL:
        yield known.wrong("not over", f"it is {task.status}")
        return
    numbers = [attempt.attempt for attempt in known.attempts]
    if numbers != list(range(1, task.attempt + 1)):
        yield known.wrong("ran again", f"it is at attempt {task.attempt}, and has {numbers}")
        return
    state = _State()
    cancelled_at = float("inf") if case.cancelled_at is None else case.cancelled_at
    for attempt in known.attempts:
        number = attempt.attempt
        if state.status != "pending" or number > cancelled_at:
            what = f"attempt {number} followed one that left the task {state.status}"
            yield known.wrong("ran again", what + f", cancelled at {case.cancelled_at}")
        state.end(attempt, task.max_attempts, cancelled=number >= cancelled_at)
        if number in case.retries:
            state = _State()
    possible = {state.status}
    if state.status == "pending" and case.cancel_asked:
        possible = {"cancelled", "failed"}  # nobody heard that it was accepted, and it was
    if task.status not in possible:
        what = f"it is {task.status}, and its attempts left it {state.status}"
        yield known.wrong("ended wrongly", what)


def agrees(known: Evidence) -> Iterator[Violation]:
    """What an attempt is said to have come to is what its processes wrote down."""
    for number, one in known.runs.items():
        if len(one.starts) > 1:
            yield known.wrong("claimed twice", f"attempt {number} ran as processes {one.starts}")
        if number > known.task.attempt:
            what = f"attempt {number} ran, and the server knows {known.task.attempt}"
            yield known.wrong("disagrees", what)
    for attempt in known.attempts:
        run = known.runs.get(attempt.attempt)
        if unlike := _unlike(known.case, attempt, run):
            yield known.wrong("disagrees", f"attempt {attempt.attempt}: {unlike}")
        if run is not None and run.agent != attempt.agent:
            what = f"attempt {attempt.attempt} of {attempt.agent} ran on {run.agent}"
            yield known.wrong("disagrees", what)


def _unlike(case: Case, attempt: Attempt, run: Run | None) -> str | None:
    """What is said of an attempt, if that is not what it did."""
    script, code = case.script, None if run is None else run.code
    by_signal = attempt.signal != script.dies or code is not None
    wrong: dict[str | None, tuple[bool, str]] = {
        "exit": (code != attempt.exit_code, f"exit {attempt.exit_code}, and it wrote {code}"),
        "signal": (by_signal, f"signal {attempt.signal}, not {script.dies}; it wrote {code}"),
        "timeout": (not (script.timeout or script.no_output_timeout), "a timeout, without one"),
        "cancelled": (not case.cancel_asked, "cancelled by nobody"),
        "returned": (run is not None, "returned unstarted, and it ran"),
        "spawn_error": (run is not None, "not started, and it ran"),
        None: (True, "it has no end"),
    }
    is_wrong, what = wrong.get(attempt.reason, (False, ""))
    return what if is_wrong else None


def causes(known: Evidence) -> Iterator[Violation]:
    """Machines lose attempts only where something happened to them."""
    for attempt in known.attempts:
        excused = attempt.reason != "agent_lost" or known.excused(attempt)
        if attempt.reason == "spawn_error":
            began_s = known.boot_s(attempt.started_at)
            until_s = began_s + SLACK_S
            excused = known.history.struck(["disk full"], attempt.agent or "", began_s, until_s)
        if not excused:
            what = f"attempt {attempt.attempt}: {attempt.reason}, {attempt.message}"
            yield known.wrong("lost causeless", what)
        if attempt.reason == "agent_lost" and (late_s := _late_s(known, attempt)) > _LOST_S:
            what = f"attempt {attempt.attempt}, {late_s:.2f} s after its agent was killed"
            yield known.wrong("lost late", what)


def _late_s(known: Evidence, attempt: Attempt) -> float:
    """How long after its agent was killed an attempt was given up, where all else was well."""
    agent, history = attempt.agent or "", known.history
    began_s, ended_s = known.span_s(attempt)
    kills = (
        event.began_s
        for event in history.near(began_s, ended_s)
        if event.kind in (*PART_KILLED, *ALL_KILLED) and event.whom == agent
    )
    killed_s = min((at_s for at_s in kills if at_s > began_s), default=ended_s)
    # After an outage the reaper waits a whole lease before it calls anybody dead.
    if history.disturbed_s(EVERYBODY, killed_s - LEASE_S, ended_s):
        return 0.0
    return ended_s - killed_s


def overlaps(known: Evidence) -> Iterator[Violation]:
    """Attempts run one after the other."""
    for before, number, both_s in overlapping(known):
        earlier, later = known.runs[before], known.runs[number]
        if not _may_overlap(known, earlier, later):
            what = f"attempt {before} on {earlier.agent} and attempt {number} on {later.agent}"
            exclusive = ", exclusive" if known.case.script.exclusive else ""
            yield known.wrong("overlap", f"{what} ran at a time for {both_s:.2f} s{exclusive}")


def overlapping(known: Evidence) -> Iterator[tuple[int, int, float]]:
    """Attempts that ran at a time, the earlier one first, and for how many seconds."""
    runs = sorted(known.runs.items(), key=lambda each: each[1].start_s)
    for place, (number, run) in enumerate(runs):
        for before, earlier in runs[:place]:
            if earlier.over_s > run.start_s:
                yield before, number, min(earlier.over_s, run.over_s) - run.start_s


def _may_overlap(known: Evidence, earlier: Run, later: Run) -> bool:
    if known.case.script.exclusive:
        return known.deserted(earlier.agent, earlier.start_s, earlier.over_s)
    return known.lost(earlier.agent, earlier.start_s, later.start_s)


def outlived(known: Evidence) -> Iterator[Violation]:
    """Processes end with their task; with their agent, if it is killed; and when given up."""
    yield from _stale(known)
    for number, run in known.runs.items():
        late_s = run.left_s - run.last_s
        unattended = known.struck(run.agent, run.last_s - SLACK_S, run.over_s)
        if late_s > _GONE_S and not unattended:
            what = f"a process of attempt {number} ran {late_s:.2f} s longer than its task"
            yield known.wrong("outlived", what)
        for event in known.history.near(run.start_s, run.over_s):
            if event.whom != run.agent or event.began_s < run.start_s:
                continue
            late_s = 0.0
            if event.kind in PART_KILLED:
                late_s = run.over_s - event.began_s
            elif event.kind in ALL_KILLED:  # the next one ends what is left
                late_s = run.over_s - event.ended_s
            if late_s > _GONE_S:
                what = f"attempt {number} ran {late_s:.2f} s longer than its agent"
                yield known.wrong("outlived", f"{what} ({event.kind})")


def _stale(known: Evidence) -> Iterator[Violation]:
    """What counts as lost is ended as soon as its agent hears of that."""
    for attempt in known.attempts:
        run = known.runs.get(attempt.attempt)
        if attempt.reason != "agent_lost" or attempt.finished_at is None or run is None:
            continue
        given_up_s = known.boot_s(attempt.finished_at)
        late_s = run.over_s - known.history.calm_s(run.agent, given_up_s, run.over_s)
        if late_s > _HEARD_S + _GONE_S:
            what = f"attempt {attempt.attempt} ran {late_s:.2f} s longer than its agent could know"
            yield known.wrong("outlived", what)
