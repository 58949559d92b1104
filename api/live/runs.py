"""With which attempt tasks of a group ended: as runs, so that ten thousand of them stay short."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator

from msgspec import Struct


class Runs(Struct, frozen=True):
    """Runs of members that ended with the same attempt, in their order.

    Tasks of other groups may lie between the members of a run.
    """

    firsts: tuple[int, ...] = ()
    lasts: tuple[int, ...] = ()
    attempts: tuple[int, ...] = ()

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        """First task, last task and attempt of each."""
        return zip(self.firsts, self.lasts, self.attempts, strict=True)

    def __len__(self) -> int:
        return len(self.firsts)

    def attempt_of(self, task: int) -> int | None:
        """The attempt with which a task ended; None where it is in no run."""
        at = bisect_right(self.firsts, task) - 1
        return self.attempts[at] if at >= 0 and task <= self.lasts[at] else None

    def added(self, task: int, attempt: int, before: int | None, after: int | None) -> "Runs":
        """With one more task, whose neighbours in its group are `before` and `after`."""
        at = bisect_right(self.firsts, task)
        start, end = at, at
        first = last = task
        if at and self.lasts[at - 1] == before and self.attempts[at - 1] == attempt:
            start, first = at - 1, self.firsts[at - 1]
        if at < len(self) and self.firsts[at] == after and self.attempts[at] == attempt:
            end, last = at + 1, self.lasts[at]
        return self._spliced(start, end, [(first, last, attempt)])

    def without(self, task: int, before: int | None, after: int | None) -> "Runs":
        """With one task less, which was in one of them."""
        at = bisect_right(self.firsts, task) - 1
        first, last, attempt = self.firsts[at], self.lasts[at], self.attempts[at]
        left = []
        if task != first and before is not None:
            left.append((first, before, attempt))
        if task != last and after is not None:
            left.append((after, last, attempt))
        return self._spliced(at, at + 1, left)

    def _spliced(self, start: int, end: int, new: list[tuple[int, int, int]]) -> "Runs":
        between = runs_from(new)
        return Runs(
            (*self.firsts[:start], *between.firsts, *self.firsts[end:]),
            (*self.lasts[:start], *between.lasts, *self.lasts[end:]),
            (*self.attempts[:start], *between.attempts, *self.attempts[end:]),
        )


NONE = Runs()


def runs_from(found: Iterable[tuple[int, int, int]]) -> Runs:
    """First task, last task and attempt of each, in their order."""
    return Runs(*zip(*found, strict=True))


def runs_of(members: Iterable[tuple[int, int | None]]) -> Runs:
    """All members in their order, each with the attempt with which it ended, or None."""
    found: list[tuple[int, int, int]] = []
    last: int | None = None
    for task, attempt in members:
        if attempt is not None and attempt == last:
            found[-1] = (found[-1][0], task, attempt)
        elif attempt is not None:
            found.append((task, task, attempt))
        last = attempt
    return runs_from(found)
