"""What simulated agents did, written down as they did it, for `loadtest.invariants`.

A chunk or a result is written down before it is sent and marked when its acknowledgement has
come, so that a kill at any moment leaves the truth: sent, but perhaps not stored.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable

from isal import isal_zlib
from msgspec import Struct, field

from schema.tasks import Reason, Status, Stream

AttemptKey = tuple[int, int]
"""(task, attempt); attempt 0 where the compatible routes do not tell it."""


class Piece(Struct, eq=False):
    """One chunk that was sent."""

    position: int
    """Its first byte in the stream, or the number of the batch."""
    parts: tuple[bytes, ...]
    """Joined they are its bytes. Payloads are shared, so a long run costs little memory."""
    acknowledged: bool = False

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(map(len, self.parts))


class Attempt(Struct, eq=False):
    """One run of a task as its agents saw it."""

    holders: list[str] = field(default_factory=list)
    """Each agent that was given it. The same one again is a redelivery."""
    pieces: dict[Stream, list[Piece]] = field(default_factory=dict)
    outcome: Status | None = None
    """The state that its result, once sent, must lead to."""
    acknowledged: bool = False
    """The result was."""
    excuse: str | None = None
    """Why another attempt may follow."""

    def total(self, stream: Stream) -> tuple[int, int]:
        """Bytes and CRC-32 of all that was sent of a stream."""
        size = crc = 0
        for part in (part for piece in self.pieces.get(stream, ()) for part in piece.parts):
            size += len(part)
            crc = isal_zlib.crc32(part, crc)
        return size, crc


class Violation(Struct, frozen=True, order=True):
    """Something that must not happen, and did."""

    rule: str
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.where}: {self.what}"


class Record(Struct, eq=False):
    """One run. Not for several threads: gevent's greenlets and asyncio's tasks take turns."""

    attempts: dict[AttemptKey, Attempt] = field(default_factory=lambda: defaultdict(Attempt))
    submitted: set[int] = field(default_factory=set)
    lost_claims: Counter[str] = field(default_factory=Counter)
    """By holder, claims without an answer: only the server knows what they were given."""
    refusals: list[Violation] = field(default_factory=list)
    """Verdicts and statuses that an agent which did nothing wrong must not get."""

    def given(self, task: int, attempt: int, holder: str) -> Attempt:
        """An agent was given an attempt."""
        known = self.attempts[task, attempt]
        if holder not in known.holders:
            known.holders.append(holder)
        return known

    def sending(self, attempt: Attempt, stream: Stream, position: int, *parts: bytes) -> Piece:
        """A chunk is about to be sent, for the first time."""
        piece = Piece(position, parts)
        attempt.pieces.setdefault(stream, []).append(piece)
        return piece

    def excuse(self, keys: Iterable[AttemptKey], why: str) -> None:
        """Other attempts may follow these."""
        for key in keys:
            self.attempts[key].excuse = why

    def refused(self, rule: str, key: AttemptKey, what: str) -> None:
        """A sound request was refused."""
        self.refusals.append(Violation(rule, name_of(key), what))


def name_of(key: AttemptKey) -> str:
    """For people."""
    task, attempt = key
    return f"task {task}, attempt {attempt}" if attempt else f"task {task}"


def outcome_of(reason: Reason, exit_code: int | None) -> Status:
    """The state after the result of a task that may fail once only."""
    if reason == "cancelled":
        return "cancelled"
    return "succeeded" if reason == "exit" and exit_code == 0 else "failed"
