"""One stream of one attempt: bytes and times go in, chunks come out. No I/O, no clock of its own.

There is no work per line: what was read in one go is one piece, joined once per chunk.
"""

import math
from typing import NamedTuple

from isal import isal_zlib

from agent.spool import Kept
from schema.marks import Mark
from schema.reports import StreamTotal

MAX_MARKS = 4096
"""A chunk with more keeps every second one: over that, times are finer than anyone reads them."""

_GZIP_LEVEL = 1  # 15 times as fast as zlib at level 6, 4 times as zlib at 1
_GZIP_WINDOW = 31


class MarkClock:
    """Microseconds since 1970 that strictly increase, shared by both streams of an attempt."""

    __slots__ = ("_last_us",)

    def __init__(self) -> None:
        self._last_us = 0

    def at(self, now_us: int) -> int:
        """Give `now_us`, or the first time after the last one given."""
        self._last_us = max(self._last_us + 1, now_us)
        return self._last_us


def gzip_member(data: bytes) -> bytes:
    """Compress; isa-l lets the GIL go, so that a thread does this beside the loop."""
    return isal_zlib.compress(data, _GZIP_LEVEL, _GZIP_WINDOW)


class Cut(NamedTuple):
    """A piece of the stream that is ready to be compressed and sent."""

    offset: int
    size: int
    pieces: list[bytes]
    marks: list[Mark]
    kept: Kept
    """What of it was written to the disk before it was cut."""
    unkept_s: float = math.inf
    """When the first of its bytes was read that was not."""

    def gzip_member(self) -> bytes:
        """Compress all of it."""
        return gzip_member(b"".join(self.pieces))


class Tail(NamedTuple):
    """What of the next chunk is not on the disk yet."""

    start: int
    """First byte of that chunk, in the stream."""
    offset: int
    """First byte of this piece, in the chunk."""
    data: bytes
    marks: list[Mark]
    kept: Kept


class StreamBuffer:
    """Collects what was read until a chunk is full or old enough."""

    __slots__ = (
        "_clock", "_crc", "_kept", "_kept_size", "_limit", "_marks", "_offset", "_opened_s",
        "_pieces", "_size", "_unkept_s",
    )  # fmt: skip

    def __init__(self, clock: MarkClock, chunk_bytes: int) -> None:
        self._clock = clock
        self._limit = chunk_bytes
        self._offset = 0  # of the chunk that is being collected
        self._crc = 0
        self._size = 0
        self._opened_s = 0.0
        self._pieces: list[bytes] = []
        self._marks: list[Mark] = []
        self._kept = Kept()
        self._kept_size = 0  # so much of the chunk is on the disk, or on its way there
        self._unkept_s = 0.0

    def append(self, data: bytes, now_us: int, now_s: float) -> list[Cut]:
        """Take what was read; give the chunks that it filled, mostly none.

        `now_us` counts from 1970, for marks; `now_s` is of a clock that nobody sets, for the age.
        """
        if not data:
            return []
        self._crc = isal_zlib.crc32(data, self._crc)
        if self._size + len(data) < self._limit:
            self._put(data, now_us, now_s)
            return []
        cuts = []
        start = 0
        while start < len(data):
            piece = data[start : start + self._limit - self._size]
            self._put(piece, now_us, now_s)
            start += len(piece)
            if self._size == self._limit:
                cuts.append(self._cut())
        return cuts

    def _put(self, data: bytes, now_us: int, now_s: float) -> None:
        if self._size == self._kept_size:
            self._unkept_s = now_s
        if not self._pieces:
            self._opened_s = now_s
        elif len(self._pieces) >= MAX_MARKS:
            # Byte-wise writers: an object for each byte would weigh forty times its content.
            self._pieces = [b"".join(self._pieces)]
        if len(self._marks) >= MAX_MARKS:
            self._marks = self._marks[::2]
        self._marks.append((self._size, self._clock.at(now_us)))
        self._pieces.append(data)
        self._size += len(data)

    def _cut(self) -> Cut:
        unkept_s = self._unkept_s if self._size > self._kept_size else math.inf
        cut = Cut(self._offset, self._size, self._pieces, self._marks, self._kept, unkept_s)
        self._offset += self._size
        self._size = self._kept_size = 0
        self._kept = Kept()
        self._pieces = []
        self._marks = []
        return cut

    def flush(self) -> Cut | None:
        """Cut what there is."""
        return self._cut() if self._size else None

    def older(self, than_s: float) -> bool:
        """Tell whether there is something whose first byte was read by then."""
        return self._size > 0 and self._opened_s <= than_s

    def tail_older(self, than_s: float) -> Tail | None:
        """Give what came since the last call, for the disk, if its first byte was read by then."""
        if self._size == self._kept_size or self._unkept_s > than_s:
            return None
        self._pieces = [b"".join(self._pieces)]
        tail = Tail(
            self._offset,
            self._kept_size,
            self._pieces[0][self._kept_size :],
            [mark for mark in self._marks if mark[0] >= self._kept_size],
            self._kept,
        )
        self._kept_size = self._size
        return tail

    def total(self, left_out: int = 0) -> StreamTotal:
        """All bytes so far; `left_out` of the stream never came here."""
        return StreamTotal(self._offset + self._size, self._crc, left_out)
