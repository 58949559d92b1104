"""A line of a merged log by its number, without reading what stands before it.

Stored chunks say how many lines end in them, and when their first byte was read. All lines that
ended before a moment come before all that ended later; how many there are is a sum over chunks, and
a count in the one chunk of each stream that the moment falls into.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Awaitable, Callable, Sequence
from itertools import accumulate
from typing import NamedTuple

from api import merging
from api.contents import StreamContents
from api.merging import Data
from api.store.logs import Column

Load = Callable[[StreamContents, int], Awaitable[Data]]
"""Reads a chunk by its number."""


class Start(NamedTuple):
    """Where to begin to read one stream."""

    chunk: int
    lines: int
    """To be left out there."""


class Place(NamedTuple):
    """Where to begin to merge."""

    line: int
    """Number of the first line that comes."""
    starts: tuple[Start, ...]


async def seek(
    contents: Sequence[StreamContents], times: Sequence[Column], line: int, load: Load
) -> Place:
    """The nearest place before a line that a few chunks tell.

    `times` has, for each stream, when the first byte of each chunk was read. Where bytes are
    missing or stand in two chunks, lines must be counted from the first one on.
    """
    streams = [_Counted(each, when, load) for each, when in zip(contents, times, strict=True)]
    top = Place(1, tuple(Start(0, 0) for _ in streams))
    if not all(each.plain for each in streams):
        return top
    moments = sorted(moment for each in streams for moment in each.times)

    def most_before(moment_us: int) -> int:
        return sum(each.most_before(moment_us) for each in streams)

    number = bisect_right(moments, line - 1, key=most_before) - 1
    while number >= 0:
        found = [await each.at(moments[number]) for each in streams]
        free_us = min(each.free_us for each in found)
        if free_us == moments[number]:
            return Place(
                1 + sum(each.before for each in found), tuple(each.start for each in found)
            )
        number = bisect_right(moments, free_us) - 1
    return top


class _Found(NamedTuple):
    """One stream at a moment."""

    before: int
    """Lines that ended before it."""
    start: Start
    free_us: int
    """That moment; or an earlier one, where a line that was not over was long already. Such a line
    stands where it began, so nobody can begin inside of it."""


class _Counted:
    """One stream, and how many lines end before each of its chunks."""

    def __init__(self, contents: StreamContents, times: Column, load: Load) -> None:
        shown = len(contents.starts)
        self._contents = contents
        self._load = load
        self._lines = contents.extents.lines[:shown]
        self._before = array("q", accumulate(self._lines, initial=0))
        self.times = times[:shown]
        sizes = contents.extents.sizes[:shown]
        end = contents.starts[-1] + sizes[-1] if shown else 0
        self.plain = sum(sizes) == contents.bytes == end and list(times) == sorted(times)
        """Its chunks join, each later than the one before."""

    def most_before(self, moment_us: int) -> int:
        """No more lines than that ended before."""
        chunks = bisect_left(self.times, moment_us)
        may_be_cut = chunks == len(self.times)  # the last line ends without a newline
        return self._before[chunks] + may_be_cut

    async def at(self, moment_us: int) -> _Found:
        """What of it is before a moment."""
        chunk = bisect_left(self.times, moment_us) - 1
        if chunk < 0:
            return _Found(0, Start(0, 0), moment_us)
        first, data, times = await self._load(self._contents, chunk)
        end = next((offset for offset, time_us in times if time_us >= moment_us), len(data))
        lines = data.count(b"\n", 0, end)
        before = self._before[chunk] + lines
        last = chunk + 1 == len(self.times) and self._contents.place.ended
        if last and end == len(data) and not data.endswith(b"\n"):
            return _Found(before + 1, Start(chunk, lines + 1), moment_us)
        begun = data.rfind(b"\n", 0, end) + 1
        if not lines:  # the line that is not over began in an earlier chunk
            stop = first + end
            chunk = bisect_left(self._before, self._before[chunk], hi=chunk) - 1
            if chunk < 0:
                return _Found(before, Start(0, 0), self._free(0, stop, moment_us))
            first, data, _ = await self._load(self._contents, chunk)
            begun, end = data.rfind(b"\n") + 1, stop - first
            lines = self._lines[chunk]
        return _Found(before, Start(chunk, lines), self._free(chunk, end - begun, moment_us))

    def _free(self, chunk: int, open_bytes: int, moment_us: int) -> int:
        return self.times[chunk] if open_bytes >= merging.LONG_LINE_BYTES else moment_us
