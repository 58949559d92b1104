"""Lines of a log by number and by what stands in them: as in the whole, without reading it all."""

import asyncio
import re
import subprocess
from unittest.mock import patch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from api import merging
from api.reading import LogReader, View
from api.searching import BadPatternError, Pattern, pattern
from schema import marks
from tests.unit.extents import START_US
from tests.unit.test_reading import _all, _Piece, _pieces, _Reader, _reader, _states, _view


def _lines(pieces: list[_Piece], *, ended: bool = True) -> list[bytes]:
    return _view(pieces, View(), ended=ended).splitlines(keepends=True)


def _numbered(lines: list[bytes], first: int = 1) -> bytes:
    return b"".join(b"%d:%b" % (number, line) for number, line in enumerate(lines, first))


@given(_pieces)
@settings(max_examples=300)
def test_lines_are_numbered_as_they_are_shown(pieces: list[_Piece]) -> None:
    """People send each other links to them."""
    assert _view(pieces, View(numbers=True)) == _numbered(_lines(pieces))


@given(_pieces, st.integers(0, 12))
@settings(max_examples=300)
def test_the_tail_knows_its_numbers(pieces: list[_Piece], count: int) -> None:
    """Though what is before it was not read."""
    lines = _lines(pieces)
    first = max(0, len(lines) - count)
    assert _view(pieces, View(tail=count, numbers=True)) == _numbered(lines[first:], first + 1)


@given(_pieces, st.integers(1, 25), st.integers(0, 10), st.sampled_from([6, 2**20]), _states)
@example([_Piece(0, b"a\nb", cut=False), _Piece(1, b"x\n", cut=False),
          _Piece(0, b"c\n", cut=True)], 2, 9, 2**20, "ended")  # fmt: skip
@example([_Piece(0, b"aaaaaaa", cut=False), *(_Piece(1, b"x\n", cut=True) for _ in range(9)),
          _Piece(0, b"a\n", cut=True)], 8, 2, 6, "ended")  # fmt: skip
@settings(max_examples=1000)
def test_a_page_is_the_same_as_in_the_whole(
    pieces: list[_Piece], line: int, count: int, long: int, state: str
) -> None:
    """Wherever it begins: in a chunk, behind a line that spans some, beside long lines."""
    with patch.object(merging, "LONG_LINE_BYTES", long):
        whole = _lines(pieces, ended=state == "ended")
        page = _view(pieces, View(line=line, lines=count, numbers=True), ended=state == "ended")
    wanted = whole[line - 1 : line - 1 + count]
    got = page.splitlines(keepends=True)
    expected = _numbered(wanted, line).splitlines(keepends=True)
    # The last line of a page may have been given its newline by what stands behind it.
    assert [each.rstrip(b"\n") for each in got] == [each.rstrip(b"\n") for each in expected]


def test_a_page_in_the_middle_reads_some_chunks_around_it() -> None:
    """A link into a log of a million lines must not read half of it."""
    streams: list[list[tuple[bytes, list[marks.Mark]]]] = [[], []]
    for number in range(2000):
        text = b"".join(b"%d %d\n" % (number, line) for line in range(500))
        start_us = START_US + number * 1000
        times = [(0, start_us), (text.index(b"\n", len(text) // 2) + 1, start_us + 900)]
        streams[number % 5 == 4].append((text, times))
    reader = _Reader(streams)

    async def page() -> bytes:
        return b"".join([each async for each in reader.text(View(line=500_001, lines=2))])

    assert asyncio.run(page()) == b"1000 0\n1000 1\n"
    assert reader.read < 12


# Searching

_text = st.text("ab\n", min_size=1, max_size=40).map(str.encode)


def _grep(data: bytes, *words: str) -> bytes:
    run = subprocess.run(["grep", "-a", *words], input=data, capture_output=True, check=False)
    assert run.returncode < 2, run.stderr
    return run.stdout


@given(_pieces, st.text("ab", min_size=1, max_size=3))
@settings(max_examples=200)
def test_grep_finds_what_grep_finds(pieces: list[_Piece], text: str) -> None:
    """The same lines with the same numbers as `dw logs | grep -nF`."""
    whole = b"".join(_lines(pieces))
    found = _view(pieces, View(pattern=pattern(text, wildcards=False, ignore_case=False)))
    assert found == _ended(_grep(whole, "-F", "-e", text), found)
    numbered = _view(
        pieces, View(pattern=pattern(text, wildcards=False, ignore_case=False), numbers=True)
    )
    assert numbered == _ended(_grep(whole, "-nF", "-e", text), numbered)


def _ended(expected: bytes, got: bytes) -> bytes:
    """Grep ends the last line that has no newline."""
    return expected if got.endswith(b"\n") else expected.removesuffix(b"\n")


@given(_text, st.text("aB*", min_size=1, max_size=5), st.booleans())
@settings(max_examples=300)
def test_wildcards_and_case(data: bytes, text: str, ignore_case: bool) -> None:
    """A star is any run of characters of the line; nothing else is special."""
    if not text.strip("*"):
        with pytest.raises(BadPatternError):
            pattern(text, wildcards=True, ignore_case=ignore_case)
        return
    wanted = pattern(text, wildcards=True, ignore_case=ignore_case)
    expression = re.compile(".*".join(map(re.escape, text.split("*"))).encode(),
                            re.IGNORECASE if ignore_case else 0)  # fmt: skip
    expected = [line for line in data.splitlines(keepends=True) if expression.search(line)]
    assert [data[start:end] for start, end in wanted.lines(data)] == expected


@pytest.mark.parametrize("text", ["", "a\nb"])
def test_a_pattern_that_cannot_be_searched_for(text: str) -> None:
    """It is told, and finds neither nothing nor everything."""
    with pytest.raises(BadPatternError):
        pattern(text, wildcards=False, ignore_case=False)


@given(_pieces, st.integers(0, 5))
@settings(max_examples=200)
def test_the_tail_of_what_matches(pieces: list[_Piece], count: int) -> None:
    """The last errors of a log: the tail is taken of what was found."""
    wanted = pattern("a", wildcards=False, ignore_case=False)
    found = _view(pieces, View(pattern=wanted)).splitlines(keepends=True)
    tail = _view(pieces, View(pattern=wanted, tail=count))
    assert tail == b"".join(found[len(found) - count :] if count < len(found) else found)


def test_a_match_over_the_pieces_of_a_long_line() -> None:
    """A gigabyte without a newline is searched in pieces; the next line is not taken for it."""
    pieces = [
        _Piece(0, part, cut=True) for part in (b"0123456", b"789ne", b"edle.", b"\nno\nneedle")
    ]
    with patch.object(merging, "LONG_LINE_BYTES", 5):
        for text in ("needle", "0*ne*le"):
            wanted = pattern(text, wildcards=True, ignore_case=False)
            found = b"1:edle.\n" + (b"3:needle" if text == "needle" else b"")
            assert _view(pieces, View(pattern=wanted, numbers=True)).rstrip(b"\n") == found.rstrip()
        assert _view(pieces, View(pattern=Pattern((b"nothing",), ignore_case=False))) == b""


async def test_nobody_reads_on_behind_a_page() -> None:
    """The rest of a log is not read for one page of it."""
    chunks = [(b"x\n", [(0, START_US + number)]) for number in range(100)]
    reader: LogReader = _Reader([chunks, []])
    assert await _all(reader, View(lines=3)) == b"x\nx\nx\n"
    assert isinstance(reader, _Reader)
    assert reader.read < 6
    assert await _all(_reader([]), View(lines=3)) == b""
