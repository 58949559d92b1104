"""Logs as people see them: pages of lines.

Text is what a task wrote. Bytes that are no UTF-8 stand in it as U+FFFD, and all of them beside it
in base64.
"""

from msgspec import Struct

from schema.tasks import LogState, Stream

MAX_TAIL = 10_000
"""Lines at the end of a log that may be asked for."""

MAX_PAGE_LINES = 5_000

WORST: tuple[LogState, ...] = (
    "expired", "open", "damaged", "missing", "undeclared", "complete",
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
