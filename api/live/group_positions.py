"""Where a viewer of a whole group is: in each task that is not over, and which ones are."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

from api.live.runs import NONE, Runs, runs_from, runs_of
from api.positions import BadPositionError, Position

_LOW = 0x7F
_MORE = 0x80
_LARGEST = 2**63
_LATEST_ATTEMPT = 10**9  # the database's numbers end at twice that
_TOLD: tuple[Literal["", "log", "end"], ...] = ("", "log", "end")
_WITHIN_BYTES = 300  # of memory: a Position in a dict
_RUN_BYTES = 100


class GroupPosition:
    """Never changed, once made. Its text is packed: it stands behind every event."""

    __slots__ = ("_text", "all_told", "ended", "known", "within")

    def __init__(
        self,
        within: Mapping[int, Position] | None = None,
        ended: Runs = NONE,
        *,
        known: int = 0,
        all_told: bool = False,
    ) -> None:
        self.within = within or {}
        """Tasks of which something was told, and more will be."""
        self.ended = ended
        """Tasks whose end was told."""
        self.known = known
        """How many tasks these are: runs may span tasks of other groups, and do not tell."""
        self.all_told = all_told
        """The end of the whole group was told."""
        self._text: str | None = None

    @property
    def weight(self) -> int:
        """Bytes of memory that it takes, about, with its text."""
        return 500 + _WITHIN_BYTES * len(self.within) + _RUN_BYTES * len(self.ended)

    def ended_at(self, task: int) -> int | None:
        """The attempt with which a task ended, if its end was told."""
        return self.ended.attempt_of(task)

    def reopened(self, task: int, before: int | None, after: int | None) -> "GroupPosition":
        """Somebody runs a task again whose end was told."""
        attempt = self.ended_at(task)
        if attempt is None:
            return self
        within = {**self.within, task: Position(attempt, told="log" if attempt else "")}
        return GroupPosition(within, self.ended.without(task, before, after), known=self.known)

    def counted(self, members: Iterable[int]) -> "GroupPosition":
        """With the number of those members of which something was told."""
        known = sum(task in self.within or self.ended_at(task) is not None for task in members)
        return GroupPosition(self.within, self.ended, known=known, all_told=self.all_told)

    @classmethod
    def of(cls, members: Iterable[int], told: Mapping[int, Position]) -> "GroupPosition":
        """Put together from positions of members, which come in their order."""
        within = {task: at for task, at in told.items() if at.told != "end"}
        ended = {task: at.attempt for task, at in told.items() if at.told == "end"}
        return cls(within, runs_of((task, ended.get(task)) for task in members), known=len(told))

    def finished(self) -> "GroupPosition":
        """Behind the end of the whole group."""
        return GroupPosition(self.within, self.ended, known=self.known, all_told=True)

    def __str__(self) -> str:
        if self._text is None:
            packed = _pack(self._numbers())
            self._text = urlsafe_b64encode(packed).rstrip(b"=").decode()
        return self._text

    def _numbers(self) -> Iterator[int]:
        yield int(self.all_told)
        yield len(self.within)
        last = 0
        for task, at in sorted(self.within.items()):
            yield from (
                task - last,
                at.attempt,
                at.stdout,
                at.stderr,
                at.lines,
                _TOLD.index(at.told),
            )
            last = task
        last = 0
        for first, end, attempt in self.ended:
            yield from (first - last, end - first, attempt)
            last = end


class Walk:
    """A position that goes on, task by task."""

    def __init__(self, position: GroupPosition) -> None:
        self._within = dict(position.within)
        self._ended = position.ended
        self._known = position.known

    def at(self, task: int) -> Position:
        """Where it is in a task whose end was not told."""
        return self._within.get(task, Position())

    def knows(self, task: int) -> bool:
        """Whether it has a place in a task whose end was not told."""
        return task in self._within

    def move(self, task: int, to: Position, before: int | None, after: int | None) -> None:
        """One task went on; `before` and `after` are its neighbours in the group."""
        self._known += task not in self._within
        if to.told == "end":
            self._within.pop(task, None)
            self._ended = self._ended.added(task, to.attempt, before, after)
        else:
            self._within[task] = to

    def position(self) -> GroupPosition:
        """Where it is now."""
        return GroupPosition(dict(self._within), self._ended, known=self._known)


def parse(text: str) -> GroupPosition:
    """Read what `str` wrote; BadPositionError."""
    try:
        numbers = _unpack(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        all_told = bool(next(numbers))
        within: dict[int, Position] = {}
        task = 0
        for _ in range(next(numbers)):
            task += next(numbers)
            attempt, stdout, stderr, lines, told = (next(numbers) for _ in range(5))
            within[task] = Position(attempt, stdout, stderr, lines, _TOLD[told])
        ended = _runs(numbers)
    except (ValueError, IndexError, RuntimeError, StopIteration):
        pass
    else:
        if all(at.attempt <= _LATEST_ATTEMPT for at in within.values()):
            return GroupPosition(within, ended, all_told=all_told)
    raise BadPositionError(
        f"{text!r:.100} is not a position in a group's logs: use the id of an event"
    )


def _runs(numbers: Iterator[int]) -> Runs:
    """All that is left; ValueError where they are not in order."""
    flat = list(numbers)
    found: list[tuple[int, int, int]] = []
    last = 0
    for gap, length, attempt in zip(flat[::3], flat[1::3], flat[2::3], strict=True):
        if not gap:
            raise ValueError(gap)
        found.append((last + gap, last + gap + length, attempt))
        last += gap + length
    return runs_from(found)


def _pack(numbers: Iterable[int]) -> bytes:
    """Unsigned LEB128."""
    out = bytearray()
    for number in numbers:
        rest = number
        while rest > _LOW:
            out.append(rest & _LOW | _MORE)
            rest >>= 7
        out.append(rest)
    return bytes(out)


def _unpack(packed: bytes) -> Iterator[int]:
    number = shift = 0
    for byte in packed:
        number |= (byte & _LOW) << shift
        if number >= _LARGEST:
            raise ValueError(number)
        if byte & _MORE:
            shift += 7
        else:
            yield number
            number = shift = 0
    if shift:
        raise ValueError(shift)
