"""Logs as people see them: pages of lines, and the events of a live log.

Text is what a task wrote. Bytes that are no UTF-8 stand in it as U+FFFD, and all of them beside it
in base64.
"""

from collections.abc import Collection
from datetime import datetime

from msgspec import Struct

from schema.tasks import LogState, Reason, Status, Stream, StreamLog

MAX_TAIL = 10_000
"""Lines at the end of a log that may be asked for."""

MAX_PAGE_LINES = 5_000

WORST: tuple[LogState, ...] = (
    "expired", "open", "damaged", "missing", "undeclared", "cut", "complete",
)  # fmt: skip
"""The state of both streams together is that of the worse one."""


class LogLine(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of a page."""

    line: int
    """Its number, from 1: in the view of both streams merged, or of the one that was asked for."""
    stream: Stream
    at_us: int
    """When its end was read, in microseconds since 1970."""
    offset: int
    """Of its first byte, in its stream."""
    text: str
    """Without its newline."""
    base64: bytes | None = None
    open: bool = False
    """It is not over: its stream may go on with it."""
    cut: int = 0
    """So many bytes at its end are left out."""


class LogPage(Struct, frozen=True, kw_only=True):
    """`GET /tasks/{id}/logs/lines`."""

    task: int
    attempt: int
    """0 before the first claim."""
    state: LogState
    total: int
    """Lines that are stored now, of the streams that were asked for."""
    lines: tuple[LogLine, ...]
    next: int | None
    """`line` of the page after this one, or where to go on to search; null: nothing follows."""
    after: str | None
    """The position behind the last line, for `logs/live`: where the page ends with the log."""


class Piece(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one stream wrote: whole lines, or a part of one."""

    stream: Stream
    offset: int
    """Of its first byte, in its stream."""
    at_us: int
    """When its end was read, in microseconds since 1970."""
    line: int
    """Number of the first line in it."""
    text: str
    base64: bytes | None = None
    open: bool = False
    """The last line is not over: a later piece of the same stream goes on with it."""


class Output(Struct, frozen=True):
    """Pieces of one attempt. The event `output` has an array of these."""

    task: int
    attempt: int
    pieces: tuple[Piece, ...]


class TaskNow(Struct, frozen=True, kw_only=True):
    """The event `status`: what a task is now."""

    task: int
    status: Status
    attempt: int
    """The newest; 0 before the first claim."""
    agent: str | None
    cancel_requested: bool
    reason: Reason | None
    run_after: datetime | None
    started_at: datetime | None


class AttemptBegun(Struct, frozen=True, kw_only=True):
    """The event `attempt`: output that follows is of this one."""

    task: int
    attempt: int
    agent: str | None
    started_at: datetime | None


class LogOver(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The event `log`: all output of an attempt was sent; how whole it is."""

    task: int
    attempt: int
    state: LogState
    """The worse one of the streams."""
    stdout: StreamLog | None = None
    stderr: StreamLog | None = None

    def of(self, streams: Collection[Stream]) -> "LogOver":
        """For somebody who sees only these."""
        kept = {"stdout": self.stdout, "stderr": self.stderr}
        logs = {stream: kept[stream] for stream in streams}
        state = min((log.state for log in logs.values() if log), key=WORST.index)
        return LogOver(task=self.task, attempt=self.attempt, state=state, **logs)


class TaskEnded(Struct, frozen=True, kw_only=True):
    """The event `end`: the task is final, and nothing follows of it."""

    task: int
    status: Status
    attempt: int
    agent: str | None
    reason: Reason | None
    exit_code: int | None
    signal: int | None
    message: str | None
    started_at: datetime | None
    finished_at: datetime | None
    run_s: float | None


class GroupNow(Struct, frozen=True, kw_only=True):
    """The events `group` and `done`: how many tasks of a group stand where."""

    name: str
    total: int
    counts: dict[Status, int]
