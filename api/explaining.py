"""Why a task is still pending, in words and as data. No I/O."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from api.store.explain import MOST_AHEAD, Lacking, Taker, Waiting
from schema.explain import (
    Busy,
    Draining,
    Ended,
    Explanation,
    InQueue,
    NoAgent,
    NotDue,
    Running,
    Soon,
    WaitsToRetry,
    Why,
)
from schema.tasks import FINAL

_NAMED = 10  # agents


def explain(
    task: int, what: Waiting, takers: Sequence[Taker], lacking: Lacking | None, ahead: int
) -> Explanation:
    """Put together what is known of a task.

    `takers`: live agents that have its labels; `lacking`: what is missing where there are none.
    """
    if what.status == "pending":
        reasons = _pending(what, takers, lacking, ahead)
    else:
        reasons = [_not_pending(what)]
    return Explanation(task, what.status, " ".join(each.text for each in reasons), tuple(reasons))


def _not_pending(what: Waiting) -> Why:
    if what.status in FINAL:
        why = f" ({what.reason})" if what.status == "failed" and what.reason else ""
        return Ended(
            text=f"It has ended: {what.status}{why}.",
            status=what.status,
            reason=what.reason,
            finished_at=what.finished_at,
        )
    if what.status == "in_progress":
        does = "is being cancelled" if what.cancel_requested else "is running"
        where = f"on agent {what.agent}" if what.agent else "on a legacy agent"
        return Running(
            text=f"It {does} {where}, attempt {what.attempt}.",
            agent=what.agent,
            attempt=what.attempt,
            started_at=what.started_at,
            cancel_requested=what.cancel_requested,
        )
    when = _when(what.run_after)
    if what.attempt:
        return WaitsToRetry(
            text=f"Attempt {what.attempt} ended with {_how(what)}; the next one starts {when}.",
            run_after=what.run_after,
            attempt=what.attempt,
            reason=what.last_reason,
        )
    return NotDue(text=f"It is not due yet: it may start {when}.", run_after=what.run_after)


def _how(what: Waiting) -> str:
    if what.last_reason == "exit":
        return f"exit code {what.last_exit_code}"
    if what.last_reason == "signal":
        return f"signal {what.last_signal}"
    return what.last_reason or "an unknown reason"


def _when(moment: datetime | None) -> str:
    if moment is None:
        return "soon"
    return f"at {moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC or soon after"


def _pending(
    what: Waiting, takers: Sequence[Taker], lacking: Lacking | None, ahead: int
) -> list[Why]:
    reasons: list[Why] = []
    work = [each for each in takers if not each.drain]
    free = sum(max(0, each.slots - each.running) for each in work)
    if lacking is not None:
        reasons.append(_no_agent(what, lacking))
    elif not work:
        reasons.append(_draining(takers))
    elif not free:
        reasons.append(_busy(work))
    if ahead:
        reasons.append(_in_queue(what, ahead))
    if not reasons:
        slots = "1 free slot" if free == 1 else f"{free:,} free slots"
        text = f"Nothing holds it up: {_agents(len(work))} with {slots} can take it at once."
        reasons.append(Soon(text=text, agents=len(work), free=free))
    return reasons


def _no_agent(what: Waiting, lacking: Lacking) -> NoAgent:
    if not lacking.agents:
        text = "There is no live agent."
    else:
        noun = "the label" if len(what.needs) == 1 else "all of the labels"
        text = f"No live agent has {noun} {_list(what.needs)}"
        nearest = [each for each in lacking.nearest if len(each.missing) < len(what.needs)]
        if nearest:
            text += f": {nearest[0].agent} lacks only {_list(nearest[0].missing)}."
        else:
            text += f"; {_agents(lacking.agents)} {'is' if lacking.agents == 1 else 'are'} live."
    return NoAgent(
        text=text, missing=lacking.missing, nearest=lacking.nearest, agents=lacking.agents
    )


def _draining(takers: Sequence[Taker]) -> Draining:
    names = tuple(each.agent for each in takers[:_NAMED])
    if len(takers) == 1:
        text = f"The only agent that could take it is draining: {names[0]}."
    else:
        text = f"All {len(takers):,} agents that could take it are draining."
    return Draining(text=text, agents=names, count=len(takers))


def _busy(work: Sequence[Taker]) -> Busy:
    slots = sum(each.slots for each in work)
    free_by = min((each.free_by for each in work if each.free_by), default=None)
    all_slots = "The only slot" if slots == 1 else f"All {slots:,} slots"
    verb = "is" if slots == 1 else "are"
    text = f"{all_slots} of {_agents(len(work))} that can take it {verb} taken"
    if free_by is not None:
        text += f"; the first will be free by {free_by.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    return Busy(text=f"{text}.", agents=len(work), slots=slots, free_by=free_by)


def _in_queue(what: Waiting, ahead: int) -> InQueue:
    more = ahead >= MOST_AHEAD
    count = f"At least {ahead:,} tasks" if more else "1 task" if ahead == 1 else f"{ahead:,} tasks"
    verb = "is" if ahead == 1 else "are"
    text = f"{count} with the same needs {verb} ahead of it."
    return InQueue(text=text, ahead=ahead, more=more, lane=what.needs, priority=what.priority)


def _agents(count: int) -> str:
    return "1 agent" if count == 1 else f"{count:,} agents"


def _list(labels: Iterable[str]) -> str:
    *most, last = labels
    return f"{', '.join(most)} and {last}" if most else last
