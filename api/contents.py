"""What a log says of itself: whether all that was written is stored, and as it was written."""

from array import array
from bisect import bisect_right
from collections.abc import Iterable
from functools import partial
from itertools import accumulate
from typing import NamedTuple

from isal import isal_zlib
from msgspec import Struct

from api import bodies
from api.store import Connection
from api.store import logs as store
from api.store.logs import CUT_BY_AGENT, CUT_BY_API, STREAMS, AttemptPlace, Column, Extents
from schema.reports import StreamTotal
from schema.tasks import LogState, Stream, StreamLog

_INLINE_CHUNKS = 2000  # judged in 1 to 2 ms; 100,000 take 32 ms where all have one size, or 76


class StreamContents(Struct, frozen=True):
    """What is stored of one stream of one attempt, and how much there should be."""

    place: AttemptPlace
    stream: Stream
    extents: Extents
    starts: Column
    """First byte in the stream that each chunk brings: behind its own where an earlier one reached
    further, so that no byte is shown twice. Of an attempt that runs, only chunks that join."""
    bytes: int
    state: LogState
    missing: tuple[tuple[int, int], ...]

    def summary(self) -> StreamLog:
        """For people."""
        return StreamLog(
            state=self.state,
            bytes=self.bytes,
            lines=sum(self.extents.lines[: len(self.starts)]),
            missing=self.missing,
        )

    @property
    def end(self) -> int:
        """One past the last byte that is shown."""
        if not self.starts:
            return 0
        last = len(self.starts) - 1
        place = self.starts if self.place.pulled else self.extents.positions
        return max(self.starts[last], place[last] + self.extents.sizes[last])

    def chunk_at(self, offset: int) -> int:
        """Number of the chunk that brings that byte, or of the last one before it."""
        return max(0, bisect_right(self.starts, offset) - 1)

    def told_before(self, number: int) -> int:
        """How many bytes of a chunk an earlier one brought already."""
        if self.place.pulled:
            return 0  # batches have numbers, and no place in bytes
        return self.starts[number] - self.extents.positions[number]


async def contents_of(
    connection: Connection, task: int, place: AttemptPlace, streams: Iterable[Stream]
) -> list[StreamContents]:
    """Look at all chunks of these streams, and judge each."""
    expired = place.day not in await store.list_days(connection)
    contents = []
    for stream in streams:
        extents = await store.list_extents(connection, task, place, STREAMS[stream])
        judge = partial(describe, place, stream, extents, expired=expired)
        inline = len(extents) <= _INLINE_CHUNKS
        contents.append(judge() if inline else await bodies.in_thread(judge))
    return contents


def describe(
    place: AttemptPlace, stream: Stream, extents: Extents, *, expired: bool
) -> StreamContents:
    """Judge a log by what is stored and what its result declared.

    Of an attempt that has not ended only what joins without a gap is shown: a chunk that overtook
    another one on its way shows when that has come.
    """
    declared = place.stdout if stream == "stdout" else place.stderr
    laid = _lay(place, extents)
    missing = list(laid.gaps)
    if declared is not None and laid.end < declared.bytes:
        missing.append((laid.end, declared.bytes))
    state: LogState
    if expired:
        state = "expired"
    elif not place.ended:
        state = "open"
    elif laid.doubled or (declared is not None and laid.end > declared.bytes):
        state = "damaged"
    elif place.cut & CUT_BY_API[stream] and not laid.gaps and (declared or place.pulled):
        state = "cut"
    elif missing:
        state = "missing"
    else:
        state = _checked(declared, extents)
        if state == "complete" and place.cut & CUT_BY_AGENT[stream]:
            state = "cut"
    return StreamContents(
        place, stream, extents, laid.starts, laid.bytes, state, () if expired else tuple(missing)
    )


class _Laid(NamedTuple):
    """Chunks in their places."""

    starts: Column
    bytes: int
    end: int
    gaps: list[tuple[int, int]]
    doubled: bool
    """A chunk begins before the end of an earlier one."""


def _lay(place: AttemptPlace, extents: Extents) -> _Laid:
    shown = len(extents)
    if place.pulled and not place.ended:
        numbers = enumerate(extents.positions)
        shown = next((at for at, number in numbers if at != number), shown)
    starts = array("q", accumulate(extents.sizes[:shown], initial=0))
    end = starts.pop()
    # Batches of the compatible routes have numbers, not places: they lie end to end.
    if place.pulled or starts == extents.positions:
        return _Laid(starts, end, end, [], doubled=False)
    return _lay_one_by_one(place, extents)


def _lay_one_by_one(place: AttemptPlace, extents: Extents) -> _Laid:
    """Chunks with gaps between them, or that overlap: ten times as slow."""
    starts = array("q")
    gaps: list[tuple[int, int]] = []
    end = size = 0
    doubled = False
    for position, length in zip(extents.positions, extents.sizes, strict=True):
        if position > end:
            if not place.ended:
                break
            gaps.append((end, position))
        doubled |= position < end
        start = max(position, end)
        starts.append(start)
        end = max(end, position + length)
        size += end - start
    return _Laid(starts, size, end, gaps, doubled)


def _checked(declared: StreamTotal | None, extents: Extents) -> LogState:
    """Judge a log without a gap: its bytes may be others than those that were written."""
    if declared is None:
        return "undeclared"
    return "complete" if joined_crc(extents) == declared.crc else "damaged"


def joined_crc(extents: Extents) -> int:
    """CRC-32 of all chunks joined, from theirs: nothing is read.

    Appending n bytes multiplies what stands before by x^(8 n), modulo the CRC's polynomial: see
    crc32_combine in zlib.
    """
    crc = 0
    for each, size in zip(extents.crcs, extents.sizes, strict=True):
        crc = isal_zlib.crc32_combine(crc, each, size)
    return crc
