"""All that is known of one task, and which faults excuse what became of it. Pure."""

from collections.abc import Callable, Mapping
from datetime import datetime

from msgspec import UNSET, Struct

from loadtest.chaos.case import Case
from loadtest.chaos.happened import History
from loadtest.chaos.journal import Run
from loadtest.chaos.limits import LEASE_S
from loadtest.record import Violation
from schema.tasks import Attempt, Task

PART_KILLED = ("agent's guardian killed", "agent's worker killed")
ALL_KILLED = ("agent killed", "agent killed for long")

_ALL_GONE = (*ALL_KILLED, "agent stopped")
_DRAINED = ("agent drained", "agent drained from afar")
_STRUCK = (*PART_KILLED, *_ALL_GONE, "agent's worker stopped", *_DRAINED)

_CUT_OFF_S = LEASE_S / 3
"""An outage by which a session may die. The beat that was parked when it came may be as old, and an
agent that could not reach the API may wait as long before it tries again."""

_CUT_OFF_EXCLUSIVE_S = 0.1
"""Exclusive tasks are ended before the lease is over: not much of it is left when all is well."""

SLACK_S = 2.0
"""A machine with more work than cores is late."""


class Evidence(Struct, frozen=True):
    """All that is known of one task."""

    case: Case
    task: Task
    attempts: tuple[Attempt, ...]
    """Oldest first, the newest one like the others."""
    runs: Mapping[int, Run]
    """By attempt."""
    history: History
    boot_s: Callable[[datetime], float]
    """The boot clock at a time of the database's."""

    @property
    def where(self) -> str:
        """For people."""
        return f"task {self.task.id}"

    def wrong(self, rule: str, what: str) -> Violation:
        """Make a finding."""
        return Violation(rule, self.where, what)

    def span_s(self, attempt: Attempt) -> tuple[float, float]:
        """When the server gave it out, and when it ended for the server."""
        began_s = self.boot_s(attempt.started_at)
        return began_s, began_s if attempt.finished_at is None else self.boot_s(attempt.finished_at)

    def excused(self, attempt: Attempt) -> bool:
        """Whether something happened by which its agent may have lost an attempt."""
        began_s, ended_s = self.span_s(attempt)
        enough_s = _CUT_OFF_EXCLUSIVE_S if self.case.script.exclusive else _CUT_OFF_S
        return self.lost(attempt.agent or "", began_s - SLACK_S, ended_s, enough_s)

    def lost(
        self, agent: str, since_s: float, until_s: float, enough_s: float = _CUT_OFF_S
    ) -> bool:
        """Whether an agent was struck then, or cut off for long enough shortly before the end."""
        return (
            self.struck(agent, since_s, until_s)
            or self.history.disturbed_s(agent, until_s - 2 * LEASE_S, until_s) >= enough_s
        )

    def deserted(self, agent: str, since_s: float, until_s: float) -> bool:
        """Whether then nobody was there who could end a task, for as long as a session may live."""
        least_s = LEASE_S - _CUT_OFF_S
        return self.history.struck(_ALL_GONE, agent, since_s, until_s, least_s)

    def struck(self, agent: str, since_s: float, until_s: float) -> bool:
        """Whether an agent was killed, stopped or drained then."""
        return self.history.struck(_STRUCK, agent, since_s, until_s)


def attempts_of(task: Task) -> tuple[Attempt, ...]:
    """All attempts of a task, the newest one like those that were superseded."""
    earlier = () if task.attempts is UNSET else task.attempts
    if task.started_at is None:
        return earlier
    newest = Attempt(
        attempt=task.attempt,
        agent=task.agent,
        reason=task.reason,
        exit_code=task.exit_code,
        signal=task.signal,
        message=task.message,
        started_at=task.started_at,
        finished_at=task.finished_at,
        run_s=task.run_s,
    )
    return (*earlier, newest)
