"""What somebody who watches a group sees of it, put together from its events. Pure.

Memory is bounded by the tasks that run, and by a thousand failures.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from msgspec import Struct

from client import outcome, render
from client.live import LiveEvent
from client.outcome import Verdict
from client.stuck import Stuck
from schema.logs import AttemptBegun, GroupNow, Output, Piece, TaskEnded, TaskNow
from schema.tasks import FINAL, Group, Status, Stream, Task

_TAIL_LINES = 5
_LINE_CHARS = 500
_FAILURES = 1000


class Tail:
    """The last lines of a task: whole ones, and those that are not over."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=_TAIL_LINES)
        self._open: dict[Stream, str] = {}

    def take(self, piece: Piece) -> None:
        """Read on."""
        *whole, rest = (self._open.pop(piece.stream, "") + piece.text).split("\n")
        for line in whole[-_TAIL_LINES:]:
            self._keep(line)
        if rest and piece.open:
            self._open[piece.stream] = rest[-_LINE_CHARS:]
        elif rest:
            self._keep(rest)

    def _keep(self, line: str) -> None:
        if line := _shown(line):
            self._lines.append(line)

    @property
    def lines(self) -> tuple[str, ...]:
        """As they stand, the newest last; empty ones left out."""
        rest = [line for text in self._open.values() if (line := _shown(text))]
        return (*self._lines, *rest)[-_TAIL_LINES:]


def _shown(line: str) -> str:
    """What a terminal shows of a line that a progress bar was written over, unless it is blank."""
    over = [part for part in line[-_LINE_CHARS:].split("\r") if part.strip()]
    return over[-1].rstrip() if over else ""


class Runs(Struct):
    """A task that runs."""

    task: int
    attempt: int
    agent: str | None
    started_at: datetime | None
    cancelling: bool


class Failure(Struct, frozen=True):
    """A task that did not succeed."""

    task: int
    attempt: int
    verdict: Verdict
    how: str
    """As `failed (exit 3)`."""
    agent: str | None
    run_s: float | None
    message: str | None
    lines: tuple[str, ...]
    """The last ones that it wrote."""


class Board:
    """A group as its events tell it."""

    def __init__(self, group: Group, now: datetime) -> None:
        """`now`: by the clock of this machine, when `group` arrived."""
        self.name = group.name
        self.total = group.total
        self.counts: Mapping[Status, int] = group.counts
        self.submitted_at = group.submitted_at
        self.running: dict[int, Runs] = {}
        self.failures: dict[int, Failure] = {}
        """The newest last."""
        self.titles: dict[int, str] = {}
        self.tails: dict[int, Tail] = {}
        self.away: str | None = None
        """Why the server does not answer, while it does not."""
        self.stuck: tuple[Stuck, ...] = ()
        self._ahead = now - group.counted_at if group.counted_at else timedelta(0)

    @property
    def ended(self) -> int:
        """Tasks that are final."""
        return sum(self.counts.get(status, 0) for status in FINAL)

    def elapsed_s(self, now: datetime) -> float:
        """Seconds since the first task was submitted, by the server's clock."""
        return (now - self._ahead - self.submitted_at).total_seconds()

    def ran_s(self, runs: Runs, now: datetime) -> float | None:
        """Seconds for which it has been running."""
        if runs.started_at is None:
            return None
        return (now - self._ahead - runs.started_at).total_seconds()

    def take(self, event: LiveEvent) -> None:
        """Hear of something."""
        self.away = None
        if isinstance(event, GroupNow):
            self.total, self.counts = event.total, event.counts
        elif isinstance(event, TaskNow):
            self._status(event)
        elif isinstance(event, AttemptBegun):
            self.tails[event.task] = Tail()
        elif isinstance(event, Output):
            tail = self.tails.setdefault(event.task, Tail())
            for piece in event.pieces:
                tail.take(piece)
        elif isinstance(event, TaskEnded):
            self._end(event)

    def _status(self, now: TaskNow) -> None:
        if now.status != "in_progress":
            self.running.pop(now.task, None)
            return
        failed = self.failures.get(now.task)
        if failed is not None:
            if now.attempt <= failed.attempt:
                return  # another API process, to which we were led, has not seen the end yet
            del self.failures[now.task]  # it runs again
        self.running[now.task] = Runs(
            now.task, now.attempt, now.agent, now.started_at, now.cancel_requested
        )

    def _end(self, end: TaskEnded) -> None:
        self.running.pop(end.task, None)
        tail = self.tails.pop(end.task, None)
        how = outcome.verdict(end)
        if how is None or how == "succeeded":
            return
        self._fail(
            Failure(
                end.task, end.attempt, how, render.ending(end), end.agent, end.run_s, end.message,
                tail.lines if tail else (),
            )
        )  # fmt: skip

    def _fail(self, failure: Failure) -> None:
        self.failures.pop(failure.task, None)
        self.failures[failure.task] = failure
        if len(self.failures) > _FAILURES:
            del self.failures[next(iter(self.failures))]

    def had_failed(self, failure: Failure, title: str) -> None:
        """Hear of one that had ended before the watching began."""
        if failure.task not in self.failures:
            self.titles[failure.task] = title
            self._fail(failure)


def failure_of(task: Task, lines: Iterable[str]) -> Failure | None:
    """A task that has ended, with the last lines that it wrote; null if it succeeded."""
    how = outcome.verdict(task)
    if how is None or how == "succeeded":
        return None
    kept = tuple(line for text in lines if (line := _shown(text)))[-_TAIL_LINES:]
    return Failure(
        task.id, task.attempt, how, render.ending(task), task.agent, task.run_s, task.message, kept
    )
