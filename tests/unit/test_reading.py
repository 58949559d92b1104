"""Reading logs: lines in the order of their times, in bounded pieces."""

import asyncio
from array import array
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, cast
from unittest.mock import patch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from api import merging
from api.contents import StreamContents, describe
from api.database import Database
from api.merging import Data
from api.reading import LogReader, Timestamps, View
from api.store.logs import Column
from schema import marks
from schema.tasks import Stream
from tests.unit.extents import START_US, extents_of, place

_NAMES: tuple[Stream, ...] = ("stdout", "stderr")


class _Piece(NamedTuple):
    """What one read of one stream gave."""

    stream: int
    data: bytes
    cut: bool
    """A new chunk begins with it."""


class _Reader(LogReader):
    """Reads chunks that a test wrote down, instead of the database's."""

    def __init__(
        self, streams: Sequence[Sequence[tuple[bytes, list[marks.Mark]]]], *, ended: bool = True
    ) -> None:
        contents = []
        for name, chunks in zip(_NAMES, streams, strict=True):
            starts = [0]
            for data, _ in chunks:
                starts.append(starts[-1] + len(data))
            extents = extents_of(
                (start, len(data), data.count(b"\n"), 0)
                for start, (data, _) in zip(starts, chunks, strict=False)
            )
            contents.append(describe(place(ended=ended), name, extents, expired=False))
        super().__init__(cast("Database", None), 1, contents)
        self._streams = streams
        self.read = 0
        """Chunks so far."""

    async def _chunks(
        self, contents: StreamContents, first: int, most: int | None = None
    ) -> AsyncGenerator[Data, None]:
        chunks = self._streams[_NAMES.index(contents.stream)]
        for number in range(first, len(chunks) if most is None else first + most):
            data, times = chunks[number]
            self.read += 1
            yield contents.starts[number], data, times

    async def _times(self, contents: StreamContents) -> Column:
        chunks = self._streams[_NAMES.index(contents.stream)]
        return array("q", [times[0][1] for _, times in chunks])


def _reader(pieces: Sequence[_Piece], *, ended: bool = True) -> _Reader:
    """Chunks as an agent makes them: a mark for each read, one clock over both streams."""
    streams: list[list[tuple[bytes, list[marks.Mark]]]] = [[], []]
    for number, (stream, data, cut) in enumerate(pieces):
        chunks = streams[stream]
        if cut or not chunks:
            chunks.append((b"", []))
        before, times = chunks[-1]
        times.append((len(before), _time(number)))
        chunks[-1] = (before + data, times)
    return _Reader(streams, ended=ended)


def _time(number: int) -> int:
    return START_US + 1000 * number


def _expected(pieces: Sequence[_Piece], *, ended: bool = True) -> list[tuple[int, bytes]]:
    """The specification: lines by the time of the read that ended them.

    What no newline ends stands where it was read; while its stream may go on, behind all others.
    """
    lines: list[tuple[bool, int, int, int, bytes]] = []
    for stream in (0, 1):
        rest, last = b"", 0
        for number, piece in enumerate(pieces):
            if piece.stream == stream:
                *whole, rest = (rest + piece.data).split(b"\n")
                lines += [(False, number, stream, index, line) for index, line in enumerate(whole)]
                last = number
        if rest:
            lines.append((not ended, last, stream, len(lines), rest))
    return [(number, line) for _, number, _, _, line in sorted(lines)]


async def _all(reader: LogReader, view: View) -> bytes:
    return b"".join([piece async for piece in reader.text(view)])


def _read(
    pieces: Sequence[_Piece], timestamps: Timestamps = "none", tail: int | None = None
) -> bytes:
    return _view(pieces, View(timestamps=timestamps, tail=tail))


def _view(pieces: Sequence[_Piece], view: View, *, ended: bool = True) -> bytes:
    return asyncio.run(_all(_reader(pieces, ended=ended), view))


def _last_lines(text: bytes, count: int) -> bytes:
    return b"".join(text.splitlines(keepends=True)[-count:] if count else [])


_pieces = st.lists(
    st.builds(
        _Piece,
        st.integers(0, 1),
        st.text("ab\n", min_size=1, max_size=12).map(str.encode),
        st.booleans(),
    ),
    max_size=20,
)
_states = st.sampled_from(["ended", "runs"])


@given(_pieces, _states)
@example([_Piece(0, b"no end", cut=False), _Piece(1, b"x\n", cut=False)], "ended")
@settings(max_examples=300)
def test_lines_of_both_streams_come_in_the_order_of_their_times(
    pieces: list[_Piece], state: str
) -> None:
    """Stored apart, read as they appeared: an error stands behind the line that caused it."""
    text = _view(pieces, View(), ended=state == "ended")
    expected = _expected(pieces, ended=state == "ended")
    assert text.split(b"\n")[: len(expected)] == [line for _, line in expected]
    assert len(text.splitlines()) == len(expected)


@given(_pieces, st.integers(0, 12))
@settings(max_examples=300)
def test_the_tail_is_the_end_of_the_whole(pieces: list[_Piece], count: int) -> None:
    """It reads only the last chunks, which must not be seen."""
    assert _read(pieces, tail=count) == _last_lines(_read(pieces), count)


@given(_pieces, st.sampled_from([None, 3]))
@settings(max_examples=200)
def test_every_line_has_its_time(pieces: list[_Piece], tail: int | None) -> None:
    """One stamp a line, of the moment when the line was whole."""
    stamped = _read(pieces, "iso", tail).splitlines()
    expected = _expected(pieces)[len(_expected(pieces)) - len(stamped) :]
    assert len(stamped) == (len(_expected(pieces)) if tail is None else min(tail, len(stamped)))
    for line, (number, text) in zip(stamped, expected, strict=True):
        at = datetime.fromtimestamp(_time(number) / 1_000_000, UTC)
        assert line == at.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3].encode() + b"Z " + text


@given(_pieces)
@settings(max_examples=300)
def test_long_lines_leave_in_pieces_and_stay_whole(pieces: list[_Piece]) -> None:
    """A line of a gigabyte must not be collected; nothing may come between its pieces."""
    with patch.object(merging, "LONG_LINE_BYTES", 6):
        text = _read(pieces)
        tail = _read(pieces, tail=3).splitlines()
        elapsed = _read(pieces, "elapsed")
    wanted = sorted(line for _, line in _expected(pieces))
    assert sorted(text.splitlines()) == wanted
    assert sorted(line[10:] for line in elapsed.splitlines()) == wanted
    assert len(tail) == min(3, len(wanted))
    assert all(any(line.endswith(end) for line in wanted) for end in tail)


def test_elapsed_counts_from_the_start_of_the_attempt() -> None:
    """People compare it with the timeout."""
    pieces = [_Piece(0, b"a\n", cut=False)] * 1501
    assert _read(pieces, "elapsed", tail=1) == b"    1.500 a\n"


@pytest.mark.parametrize("mark_every", [1, 100])
def test_a_progress_bar_of_many_small_reads_is_quick(mark_every: int) -> None:
    """A mark a byte and no newline: the work must not grow with the square of the line."""
    data = b"." * 1_000_000
    times = [(offset, START_US + offset) for offset in range(0, len(data), mark_every)]
    reader = _Reader([[(data, times)], []])

    async def read() -> bytes:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        text = await _all(reader, View())
        assert loop.time() - begun < 5
        return text

    assert asyncio.run(read()) == data
