"""Whether a log is what its attempt wrote, and says of itself what is true. Pure.

log lost      bytes are missing although it calls itself complete
log differs   it has other bytes than its task wrote there
log state     a log of an attempt that ended so cannot be what it calls itself
seen wrongly  a viewer was shown something twice, not in its order, not at all, or other bytes
"""

from collections.abc import Sequence

from isal import isal_zlib
from msgspec import Struct

from loadtest.chaos.journal import Run
from loadtest.chaos.scripts import Script
from loadtest.chaos.viewers import Seen
from schema.tasks import Attempt, LogState, Stream

_DECLARED = frozenset({"exit", "signal", "timeout"})
"""Their results say how much there is, and are committed with all of it."""

Wrong = tuple[str, str]
"""Rule and reason."""


class Log(Struct, frozen=True):
    """One stream of one attempt that is over, as the server gives it."""

    stream: Stream
    state: LogState
    missing: Sequence[tuple[int, int]]
    """Ranges that are not in `body`: first byte, and one past the last."""
    body: bytes

    @property
    def end(self) -> int:
        """How far it goes in the stream."""
        return len(self.body) + sum(last - first for first, last in self.missing)


def judge(script: Script, attempt: Attempt, run: Run | None, log: Log) -> Wrong | None:
    """What is wrong with it; `run` is None where its task never started."""
    return _wrong_state(attempt, log) or _wrong_bytes(script, attempt, run, log)


def judge_seen(seen: Seen, log: Log) -> Wrong | None:
    """What is wrong with what a viewer was shown; less than there is, if he left before the end."""
    what = _wrongly_seen(seen, log)
    return None if what is None else ("seen wrongly", what)


def _wrongly_seen(seen: Seen, log: Log) -> str | None:
    if seen.back is not None:
        return f"byte {seen.back} came again, or too late"
    if seen.afterwards:
        return "more came when all of it was said to be shown"
    if seen.told is not None and seen.told.bytes != seen.size:
        return f"{seen.size} bytes were shown, and {seen.told.bytes} announced"
    if seen.told is not None and log.state == "complete" and seen.size != len(log.body):
        return f"{seen.size} bytes were shown of {len(log.body)}"
    whole = seen.size == len(log.body) or not (seen.gaps or log.missing)
    if whole and isal_zlib.crc32(log.body[: seen.size]) != seen.crc:
        return f"the first {seen.size} bytes are others than those that are stored"
    return None


def _wrong_state(attempt: Attempt, log: Log) -> Wrong | None:
    unfinished = log.state != "complete" and attempt.reason in _DECLARED
    if log.state in {"open", "expired", "damaged"} or unfinished:
        return "log state", f"it is {log.state}, and its attempt ended by {attempt.reason}"
    if bool(log.missing) != (log.state == "missing"):
        return "log state", f"it is {log.state}, and {list(log.missing)} are missing"
    return None


def _wrong_bytes(script: Script, attempt: Attempt, run: Run | None, log: Log) -> Wrong | None:
    whole = b"" if run is None else script.content(attempt.attempt, log.stream)
    if log.end > len(whole):
        return "log differs", f"it goes to byte {log.end}, and its task wrote {len(whole)}"
    wanted = _without(whole[: log.end], log.missing)
    if log.body != wanted:
        return "log differs", _first_difference(log.body, wanted)
    if log.state == "complete" and run is not None:
        # Of one that was killed it is only known what it had written by its last beat.
        written = len(whole) if run.code is not None else run.written[log.stream == "stderr"]
        if log.end < written:
            return "log lost", f"it is complete with {log.end} bytes, its task wrote {written}"
    return None


def _without(data: bytes, ranges: Sequence[tuple[int, int]]) -> bytes:
    kept = []
    at = 0
    for first, last in ranges:
        kept.append(data[at:first])
        at = last
    return b"".join((*kept, data[at:]))


def _first_difference(got: bytes, wanted: bytes) -> str:
    if len(got) != len(wanted):
        return f"{len(got)} bytes where {len(wanted)} should be"
    at = next(at for at, (one, other) in enumerate(zip(got, wanted, strict=True)) if one != other)
    return f"byte {at} of {len(got)} is another one"
