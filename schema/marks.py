"""Marks: when each piece of a chunk was read, so that two streams can be merged line by line.

A mark is (offset in the chunk, time): from that byte on, up to the next mark, the bytes were read
at that time. Times are microseconds since 1970 on one clock that strictly increases over both
streams of an attempt. On the wire each mark is two unsigned LEB128 numbers, the differences to
the mark before it: some four bytes a mark. The first mark stands at offset 0.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise

Mark = tuple[int, int]
"""(byte offset in the chunk, microseconds since 1970)"""

MAX_BYTES = 65_536
"""Of one chunk's marks on the wire: an agent's 4,096 take less, and decoding is slow."""

_LOW = 0x7F  # seven bits of the number
_MORE = 0x80  # another byte follows
_VARINT_BITS = 63
_LATEST_US = 253_402_300_799_999_999  # the end of the year 9999, as far as calendars go


class BadMarksError(ValueError):
    """The bytes are no marks of a chunk of that size."""


def encode(marks: Iterable[Mark]) -> bytes:
    """Write marks in their order."""
    out = bytearray()
    last_offset = last_time = 0
    for offset, time_us in marks:
        for number in (offset - last_offset, time_us - last_time):
            rest = number
            while rest > _LOW:
                out.append(rest & _LOW | _MORE)
                rest >>= 7
            out.append(rest)
        last_offset, last_time = offset, time_us
    return bytes(out)


def decode(data: bytes) -> list[Mark]:
    """Read what `encode` wrote; BadMarksError where a number is cut or has over 63 bits."""
    if len(data) > MAX_BYTES:
        raise BadMarksError(f"marks: {len(data)} bytes, the limit is {MAX_BYTES} per chunk")
    numbers: list[int] = []
    number = shift = 0
    for byte in data:
        number |= (byte & _LOW) << shift
        if byte & _MORE:
            shift += 7
            if shift >= _VARINT_BITS:
                raise BadMarksError("marks: a number has more than 63 bits")
        else:
            numbers.append(number)
            number = shift = 0
    if shift or len(numbers) % 2:
        raise BadMarksError("marks: the last mark is truncated")
    marks: list[Mark] = []
    offset = time_us = 0
    for index in range(0, len(numbers), 2):
        offset += numbers[index]
        time_us += numbers[index + 1]
        marks.append((offset, time_us))
    return marks


def first_us(start: bytes) -> int | None:
    """The time of the first mark, from the first dozen bytes; None where there are no marks."""
    time_us = shift = 0
    for byte in start[1:]:  # the first byte is the offset, 0
        time_us |= (byte & _LOW) << shift
        if not byte & _MORE:
            return time_us
        shift += 7
    return None


def behind(marks: Sequence[Mark], offset: int) -> list[Mark]:
    """Marks of a chunk without its first `offset` bytes, which are not all of it."""
    last = bisect_right(marks, offset, key=lambda mark: mark[0]) - 1
    return [(0, marks[last][1]), *((at - offset, time_us) for at, time_us in marks[last + 1 :])]


def check(marks: Sequence[Mark], size: int) -> None:
    """BadMarksError unless the marks start at 0, stay inside `size` bytes, and increase."""
    if not marks:
        return
    if marks[0][0] != 0:
        raise BadMarksError("marks: the first one must be at offset 0")
    for (offset, time_us), (next_offset, next_time) in pairwise(marks):
        if next_offset <= offset or next_time <= time_us:
            raise BadMarksError("marks: offsets and times must increase")
    if marks[-1][1] > _LATEST_US:
        raise BadMarksError("marks: a time is after the year 9999")
    if size and marks[-1][0] >= size:
        raise BadMarksError("marks: the last one is after the chunk's end")
