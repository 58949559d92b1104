"""How tasks ended, and what `dw` ends with. Pure."""

from collections.abc import Iterable
from typing import Literal

from schema.tasks import FINAL, INFRASTRUCTURE, Task

Verdict = Literal["succeeded", "failed", "infrastructure", "cancelled"]
"""`infrastructure`: its machine failed, not the task."""

EXIT_CODES: dict[Verdict, int] = {"failed": 1, "infrastructure": 3, "cancelled": 4, "succeeded": 0}
"""In order of weight: of many tasks, the first that occurs decides."""

LOG_MISSING = 3
_SIGNALLED = 128
_TIMED_OUT = 124  # as timeout(1)
_NOT_ITS_OWN = 125  # as docker run: the task did not end by itself


def verdict(task: Task) -> Verdict | None:
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
