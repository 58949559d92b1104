"""How tasks ended, and what `dw` ends with. Pure."""

from collections.abc import Iterable
from typing import Literal

from schema.logs import TaskEnded
from schema.tasks import FINAL, INFRASTRUCTURE, Group, LogState, Task

Verdict = Literal["succeeded", "failed", "infrastructure", "cancelled"]
"""`infrastructure`: its machine failed, not the task."""

EXIT_CODES: dict[Verdict, int] = {"failed": 1, "infrastructure": 3, "cancelled": 4, "succeeded": 0}
"""In order of weight: of many tasks, the first that occurs decides."""

LOG_MISSING = 3
LOST: tuple[LogState, ...] = ("damaged", "missing", "expired")
"""What of a log ends with that; worst first."""

_SIGNALLED = 128
_TIMED_OUT = 124  # as timeout(1)
_NOT_ITS_OWN = 125  # as docker run: the task did not end by itself


def verdict(task: Task | TaskEnded) -> Verdict | None:
    """Null while the task has not ended."""
    if task.status not in FINAL:
        return None
    if task.status == "failed" and task.reason in INFRASTRUCTURE:
        return "infrastructure"
    return (
        "cancelled"
        if task.status == "cancelled"
        else ("succeeded" if task.status == "succeeded" else "failed")
    )


def exit_code(verdicts: Iterable[Verdict]) -> int:
    """Choose what a wait for tasks that ended so ends with."""
    present = set(verdicts)
    return next((code for name, code in EXIT_CODES.items() if name in present), 0)


def by_verdict(group: Group) -> dict[Verdict, int]:
    """How many tasks of a group have ended in each way."""
    failed = group.counts.get("failed", 0)
    return {
        "failed": failed - group.infrastructure,
        "infrastructure": group.infrastructure,
        "cancelled": group.counts.get("cancelled", 0),
        "succeeded": group.counts.get("succeeded", 0),
    }


def of_group(group: Group) -> int:
    """Choose what a wait for all of a group ends with."""
    return exit_code(how for how, count in by_verdict(group).items() if count)


def exit_like(task: Task) -> int:
    """Choose what `dw submit --follow` ends with: like the command itself, where it can."""
    if task.status == "succeeded":
        return 0
    if task.reason == "exit" and task.exit_code:
        # Only eight bits pass; a code that would look like success there must not.
        return task.exit_code & 0xFF or 1
    if task.reason == "signal" and task.signal:
        return _SIGNALLED + task.signal
    if task.reason == "timeout":
        return _TIMED_OUT
    return _NOT_ITS_OWN
