"""What a campaign tells: its figures, and of each violation all that is known about the task."""

import platform
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import islice

from benchmarks import machine
from loadtest.chaos.campaign import Outcome
from loadtest.chaos.evidence import Evidence
from loadtest.chaos.happened import EVERYBODY, Happened
from loadtest.chaos.journal import Run
from loadtest.chaos.limits import LEASE_S, SLOTS
from loadtest.record import Violation
from schema.tasks import Attempt

_MOST_SHOWN = 12


def render(outcome: Outcome) -> Iterator[str]:
    """Lines for people."""
    findings = outcome.findings
    kinds = Counter(case.script.kind for case in outcome.cases)
    faults = outcome.history.counts()
    yield f"again       SEED={outcome.seed} DURATION={outcome.duration_s:.0f} just chaos"
    yield f"machine     {_machine()}"
    yield f"set-up      {len(SLOTS)} agents with {SLOTS} slots, a lease of {LEASE_S:.0f} s"
    yield f"tasks       {len(outcome.cases):,}: {_listed(kinds.most_common())}"
    yield f"attempts    {findings.attempts.total():,}: {_listed(findings.attempts.most_common())}"
    yield f"faults      {faults.total():,}: {_listed(faults.most_common())}"
    if outcome.skipped:
        yield f"skipped     {outcome.skipped.total()}: {_listed(outcome.skipped.most_common())}"
    yield (
        f"logs        {findings.logs.total():,} compared, {findings.log_bytes / 1e6:,.1f} MB: "
        f"{_listed(findings.logs.most_common())}; {findings.seen:,} were watched live"
    )
    yield f"overlaps    of attempts of one task: {_listed(findings.overlaps.items())}"
    if not findings.violations:
        yield "violations  none"
        return
    rules = Counter(each.rule for each in findings.violations)
    yield f"violations  {rules.total():,}: {_listed(rules.most_common())}"
    places: dict[str, list[Violation]] = defaultdict(list)
    for violation in sorted(findings.violations, key=lambda each: rules[each.rule]):
        places[violation.where].append(violation)  # the rarest first
    for where in islice(places, _MOST_SHOWN):
        yield ""
        yield from map(str, places[where])
        if known := findings.evidence.get(where):
            yield from _history(known)
    if len(places) > _MOST_SHOWN:
        yield f"\nand of {len(places) - _MOST_SHOWN} more tasks"


def _machine() -> str:
    about = machine.describe()
    packages = about.pop("packages")
    assert isinstance(packages, dict)
    python = ("python", platform.python_version())
    return f"{_listed(about.items())}, {_listed([python, *packages.items()])}"


def _listed(counts: Iterable[tuple[str, object]]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts)


def _history(known: Evidence) -> Iterator[str]:
    """What is known of one task, in the order of time."""
    script = known.case.script
    yield f"  {script}"
    yield f"  server: {known.task.status}, attempt {known.task.attempt}, {known.task.reason}"
    lines = [(at_s, f"people: {what}") for at_s, what in known.case.said]
    for attempt in known.attempts:
        lines += _of_attempt(known, attempt)
    for number, run in known.runs.items():
        lines += _of_run(number, run)
    first = min((at_s for at_s, _ in lines), default=0)
    last = max((at_s for at_s, _ in lines), default=0)
    agents = {run.agent for run in known.runs.values()} | {each.agent for each in known.attempts}
    lines += [
        (event.began_s, _of_event(event))
        for event in known.history.near(first - LEASE_S, last)
        if event.whom in agents or event.whom == EVERYBODY
    ]
    yield from (f"  {at_s - first:8.2f} s  {what}" for at_s, what in sorted(lines))


def _of_attempt(known: Evidence, attempt: Attempt) -> Iterator[tuple[float, str]]:
    name = f"server: attempt {attempt.attempt}"
    yield known.boot_s(attempt.started_at), f"{name} given to {attempt.agent}"
    if attempt.finished_at is not None:
        end = (attempt.reason, attempt.exit_code, attempt.signal, attempt.message)
        said = " ".join(str(each) for each in end if each is not None)
        yield known.boot_s(attempt.finished_at), f"{name} ended: {said}"


def _of_run(number: int, run: Run) -> Iterator[tuple[float, str]]:
    name = f"journal: attempt {number}"
    yield run.start_s, f"{name} starts on {run.agent} as process {run.starts}"
    how = "last sign" if run.code is None else f"ends with {run.code}"
    yield run.last_s, f"{name} {how}, written {run.written}"
    if run.left_s:
        yield run.left_s, f"{name}, last sign of a process that it left"


def _of_event(event: Happened) -> str:
    return f"fault: {event.kind}, {event.where}, for {event.ended_s - event.began_s:.2f} s"
