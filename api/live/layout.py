"""Where the bytes of one stream lie while they are looked at: that of a running attempt grows."""

from array import array
from bisect import bisect_right
from collections.abc import Iterable

from api.contents import StreamContents
from api.store.live import Extent


class Layout:
    """The chunks of one stream of one attempt that are shown, by number."""

    def __init__(self, contents: StreamContents) -> None:
        shown = len(contents.starts)
        self._pulled = contents.place.pulled
        self._positions = contents.extents.positions[:shown]
        self._sizes = contents.extents.sizes[:shown]
        self._starts = array("q", contents.starts)
        self._lines = contents.extents.lines[:shown]
        self.all_lines = sum(self._lines)
        """Newlines in all of them."""
        self.end = contents.end
        """One past the last byte."""

    def __len__(self) -> int:
        return len(self._starts)

    @property
    def last_position(self) -> int:
        """Position of the last chunk; -1 where there is none."""
        return self._positions[-1] if self._positions else -1

    def place(self, number: int) -> tuple[int, int, int]:
        """(position, bytes, first byte) of a chunk, as it is stored."""
        start = self._starts[number] if self._pulled else self._positions[number]
        return self._positions[number], self._sizes[number], start

    def begins(self, number: int) -> int:
        """First byte that a chunk brings: behind its own where an earlier one reached further."""
        return self._starts[number]

    def number(self, offset: int) -> int:
        """The chunk that has that byte, or else the next one."""
        number = bisect_right(self._starts, offset) - 1
        if number < 0:
            return 0
        _, size, start = self.place(number)
        return number if offset < start + size else number + 1

    @property
    def joins(self) -> bool:
        """Whether each byte stands in one chunk: else lines are not as many as newlines."""
        return sum(self._sizes) == self.end

    def before_tail(self, lines: int, most_bytes: int) -> int:
        """The chunk from which on there are more than so many lines, or bytes."""
        found = size = 0
        for number in range(len(self) - 1, -1, -1):
            found += self._lines[number]
            size += self._sizes[number]
            if found > lines or size > most_bytes:
                return number
        return 0

    def lines_before(self, number: int) -> int:
        """Newlines before a chunk."""
        return sum(self._lines[:number])

    def extend(self, extents: Iterable[Extent]) -> bool:
        """Add what joins the end; whether there was something."""
        before = self.end
        for position, size, lines in extents:
            if position <= self.last_position:
                continue  # known already
            if position > (len(self) if self._pulled else self.end):
                break  # it overtook another one
            self._positions.append(position)
            self._sizes.append(size)
            self._starts.append(self.end)
            self._lines.append(lines)
            self.all_lines += lines
            self.end = self.end + size if self._pulled else max(self.end, position + size)
        return self.end > before
