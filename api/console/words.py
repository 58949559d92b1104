"""Times, sizes and states as people read them. Pure."""

import signal
from datetime import UTC, datetime

from schema.tasks import Attempt, Status, Task

_MINUTE = 60
_HOUR = 3600
_DAY = 86_400
_THOUSAND = 1000

SIGNS: dict[Status, str] = {
    "pending": "○",
    "scheduled": "◷",
    "in_progress": "▶",
    "succeeded": "✓",
    "failed": "✗",
    "cancelled": "⊘",
}
"""Beside the word and its colour, for whoever does not see colours."""

NAMES: dict[Status, str] = {
    "pending": "pending",
    "scheduled": "scheduled",
    "in_progress": "running",
    "succeeded": "succeeded",
    "failed": "failed",
    "cancelled": "cancelled",
}

_REASONS = {
    "timeout": "timed out",
    "agent_lost": "its agent was lost",
    "spawn_error": "could not be started",
    "returned": "was handed back",
}


def duration(seconds: float) -> str:
    """Two parts at most: `0.52 s`, `1 min 4 s`, `3 h 12 min`."""
    seconds = max(0.0, seconds)
    if seconds < 10:  # noqa: PLR2004 - below it fractions are worth a look
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    whole = round(seconds)
    for unit, name, below, name_below in (
        (_DAY, "d", _HOUR, "h"),
        (_HOUR, "h", _MINUTE, "min"),
        (_MINUTE, "min", 1, "s"),
    ):
        if whole >= unit:
            rest = whole % unit // below
            return f"{whole // unit} {name}" + (f" {rest} {name_below}" if rest else "")
    return f"{whole} s"


def relative(then: datetime, now: datetime) -> str:
    """How long ago, or how soon, in one part."""
    seconds = (now - then).total_seconds()
    size = abs(seconds)
    if size < 1:
        return "now"
    for unit, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min"), (1, "s")):
        if size >= unit:
            text = f"{int(size // unit)} {name}"
            return f"{text} ago" if seconds > 0 else f"in {text}"
    raise AssertionError(size)


def exact(moment: datetime) -> str:
    """In UTC, to the second."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def machine(moment: datetime) -> str:
    """For programs."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def count(number: int) -> str:
    """With commas."""
    return f"{number:,}"


def size(number: float) -> str:
    """Bytes, with two digits or three."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < _THOUSAND:
            exact = unit == "B" or number >= _THOUSAND / 10
            return f"{number:.0f} {unit}" if exact else f"{number:.1f} {unit}"
        number /= _THOUSAND
    return f"{number:.1f} TB"


def title(task: Task) -> str:
    """What a task is called: its name, or how its command begins."""
    return task.name or task.command.strip().partition("\n")[0][:200] or "(blank)"


def outcome(run: Task | Attempt) -> str:
    """How a run ended, beyond its state: nothing where the state says it all."""
    if run.reason == "exit":
        return f"exit {run.exit_code}" if run.exit_code else ""
    if run.reason == "signal" and run.signal is not None:
        try:
            return signal.Signals(run.signal).name
        except ValueError:
            return f"signal {run.signal}"
    return _REASONS.get(run.reason or "", "")
