"""Text for people: durations, sizes, states and names that are safe on a terminal. Pure."""

import re
from datetime import datetime

from client.outcome import verdict
from schema.logs import TaskEnded
from schema.tasks import FINAL, Attempt, StreamLog, Task

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_KILO = 1000
_TEN = 10

STYLES = {"succeeded": "green", "failed": "red", "infrastructure": "magenta", "cancelled": "yellow"}


def one_line(text: str) -> str:
    """Without control characters: a task's command may not drive the terminal."""
    return _CONTROL.sub(" ", text).strip()


def duration(seconds: float) -> str:
    """As `0.84 s`, `12.3 s`, `4m05s`, `2h10m`, `3d04h`."""
    seconds = max(0.0, seconds)
    if round(seconds, 2) < _TEN:
        return f"{seconds:.2f} s"
    if round(seconds, 1) < _MINUTE:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _HOUR:
        return f"{whole // _MINUTE}m{whole % _MINUTE:02}s"
    if whole < _DAY:
        return f"{whole // _HOUR}h{whole % _HOUR // _MINUTE:02}m"
    return f"{whole // _DAY}d{whole % _DAY // _HOUR:02}h"


def age(then: datetime, now: datetime) -> str:
    """How long ago, in its largest unit: `12s`, `5m`, `3h`, `9d`."""
    seconds = max(0, int((now - then).total_seconds()))
    if seconds < _MINUTE:
        return f"{seconds}s"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE}m"
    return f"{seconds // _HOUR}h" if seconds < _DAY else f"{seconds // _DAY}d"


def size(count: int) -> str:
    """Bytes as `0 B`, `980 B`, `1.2 kB`, `45 MB`; a thousand is a k."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if round(value) < _KILO:
            return f"{value:.0f} {unit}" if unit == "B" or value >= _TEN else f"{value:.1f} {unit}"
        value /= _KILO
    return f"{value:.1f} TB"


def status(task: Task) -> str:
    """Tell the status, with its reason where that says more: `failed (exit 3)`."""
    if task.status == "in_progress":
        return "cancelling" if task.cancel_requested else "running"
    return ending(task)


def ending(task: Task | TaskEnded) -> str:
    """Tell how it ended: `succeeded`, `failed (exit 3)`."""
    if task.status != "failed":
        return task.status
    if task.reason == "exit":  # legacy agents tell no code
        return "failed" if task.exit_code is None else f"failed (exit {task.exit_code})"
    if task.reason == "signal":
        return f"failed (signal {task.signal})"
    return f"failed ({task.reason})" if task.reason else "failed"


def style(task: Task) -> str:
    """Choose the colour of its status."""
    how = verdict(task)
    if how is None:
        return "cyan" if task.status == "in_progress" else "dim"
    return STYLES[how]


def title(task: Task) -> str:
    """Its name, or else its command on one line."""
    return one_line(task.name or task.command)


def run_time(task: Task, now: datetime) -> str:
    """How long its newest attempt ran, or has been running; empty before it starts."""
    if task.run_s is not None:
        return duration(task.run_s)
    if task.started_at is None or (task.status in FINAL and task.finished_at is None):
        return ""
    return duration(((task.finished_at or now) - task.started_at).total_seconds())


def attempt(one: Attempt) -> str:
    """Tell how an earlier attempt ended: `exit 3 after 12.3 s on farm-1`."""
    how = {"exit": f"exit {one.exit_code}", "signal": f"signal {one.signal}"}
    parts = [how.get(one.reason or "", one.reason or "unknown end")]
    if one.run_s is not None:
        parts.append(f"after {duration(one.run_s)}")
    if one.agent:
        parts.append(f"on {one_line(one.agent)}")
    if one.message:
        parts.append(f"({one_line(one.message)})")
    return " ".join(parts)


def log_line(log: StreamLog) -> str:
    """Tell what one stream's log says of itself."""
    lines = "1 line" if log.lines == 1 else f"{log.lines:,} lines"
    text = f"{log.state}, {size(log.bytes)}, {lines}"
    if log.state == "damaged":
        text += "; not the bytes that were written, by CRC or position"
    if log.missing:
        holes = ", ".join(f"{first:,}-{end - 1:,}" for first, end in log.missing)
        why = "exceeded the log's limit" if log.state == "cut" else "never arrived"
        text += f"; bytes {holes} {why}"
    return text
