"""Marks: small on the wire, exact, and refused when they cannot be true."""

from contextlib import suppress
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema import marks
from schema.marks import BadMarksError, Mark

_YEAR_2026_US = 1_767_225_600_000_000


@st.composite
def _true_marks(draw: st.DrawFn) -> list[Mark]:
    count = draw(st.integers(0, 40))
    steps = st.integers(1, 100_000)
    offsets = accumulate([0, *(draw(steps) for _ in range(count))])
    times = accumulate([_YEAR_2026_US, *(draw(steps) for _ in range(count))])
    return list(zip(offsets, times, strict=True))


@given(_true_marks())
def test_true_marks_survive_the_wire(true: list[Mark]) -> None:
    """The merged log is ordered by them."""
    assert marks.decode(marks.encode(true)) == true
    marks.check(true, true[-1][0] + 1)


@given(_true_marks(), st.data())
def test_marks_behind_a_place_are_those_of_the_bytes_there(
    true: list[Mark], data: st.DataObject
) -> None:
    """A byte keeps its time where others in front of it are left out."""

    def time_of(byte: int, among: list[Mark]) -> int:
        return max(time_us for at, time_us in among if at <= byte)

    offset = data.draw(st.integers(0, true[-1][0] + 5))
    rest = marks.behind(true, offset)
    marks.check(rest, true[-1][0] + 10)
    for byte in {offset, offset + 1, *(at for at, _ in true if at >= offset)}:
        assert time_of(byte - offset, rest) == time_of(byte, true)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """They come off the wire: anything but BadMarksError would be a 500."""
    with suppress(BadMarksError):
        read = marks.decode(data)
        assert all(now[0] >= before[0] for before, now in pairwise(read))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x00", "truncated"),
        (b"\x00\x80", "truncated"),
        (b"\x80", "truncated"),
        (b"\x00\x01\x05", "truncated"),
        (b"\x80" * 9 + b"\x01\x00", "63 bits"),
    ],
)
def test_cut_and_endless_numbers_are_named(data: bytes, why: str) -> None:
    """An endless number would otherwise grow without bound."""
    with pytest.raises(BadMarksError, match=why):
        marks.decode(data)


def test_the_largest_number_passes() -> None:
    """The bound must not be off by one byte."""
    assert marks.decode(marks.encode([(0, 2**63 - 1)])) == [(0, 2**63 - 1)]


@pytest.mark.parametrize(
    ("untrue", "why"),
    [
        ([(1, 5)], "offset 0"),
        ([(0, 5), (0, 6)], "increase"),
        ([(0, 5), (3, 5)], "increase"),
        ([(0, 5), (10, 6)], "end"),
        ([(0, 2**62)], "9999"),
    ],
)
def test_untrue_marks_are_refused(untrue: list[Mark], why: str) -> None:
    """Readers rely on the order, the size, and on times that a calendar has."""
    with pytest.raises(BadMarksError, match=why):
        marks.check(untrue, 10)


def test_no_marks_are_true() -> None:
    """A chunk without marks counts from its arrival."""
    marks.check([], 10)


def test_a_mark_takes_some_four_bytes() -> None:
    """Lines of 80 bytes a millisecond apart: marks must stay small beside the text."""
    many = [(80 * number, _YEAR_2026_US + 1000 * number) for number in range(1000)]
    assert len(marks.encode(many)) < 4 * len(many)


def test_more_bytes_than_an_agent_sends_are_refused_undecoded() -> None:
    """Fifteen megabytes of marks took eleven seconds, and a gigabyte, to be found wrong."""
    with pytest.raises(BadMarksError, match="per chunk"):
        marks.decode(b"\0" * (marks.MAX_BYTES + 1))


def test_the_marks_of_the_busiest_chunk_are_taken() -> None:
    """An agent keeps 4,096 of a chunk of 1 MiB at most, here a year apart."""
    year_us = 31_536_000_000_000
    busiest = [(number * 256, _YEAR_2026_US + number * year_us) for number in range(4096)]
    assert len(marks.encode(busiest)) <= marks.MAX_BYTES
