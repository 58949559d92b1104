"""Gzip members off the wire: exactly one, whole, and never more memory than allowed."""

import gzip
import tracemalloc
import zlib
from contextlib import suppress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from isal import isal_zlib

from api import members
from api.members import BadGzipError, Measured, TooSlowError

_MIB = 1024 * 1024
_TEXT = b"one\ntwo\nthree\n" * 50
_MEMBER = gzip.compress(_TEXT, mtime=0)


@st.composite
def _data(draw: st.DrawFn) -> bytes:
    """Bytes of many sizes, about the inflater's step too, that deflate well or badly."""
    piece = draw(st.binary(min_size=1, max_size=100))
    steps, beside = draw(st.integers(0, 4)), draw(st.integers(-3, 3))
    size = max(0, draw(st.sampled_from([len(piece), members._STEP * steps + beside])))
    return (piece * (size // len(piece) + 1))[:size]


def _compressed(data: bytes, level: int) -> bytes:
    if level < 0:
        return members.deflate(data)
    return gzip.compress(data, level)


@given(_data(), st.integers(-1, 9))
@example(b"", 6)
@example(b"\0" * members._STEP, 9)
@settings(max_examples=150)
def test_a_member_is_counted_exactly(data: bytes, level: int) -> None:
    """The totals of a log are made of these counts; zlib itself is the judge."""
    member = _compressed(data, level)
    assert members.measure(member, len(data)) == Measured(
        len(data), data.count(b"\n"), zlib.crc32(data)
    )
    assert members.inflate(member, len(data)) == data


@given(_data(), st.data())
@settings(max_examples=100)
def test_a_cut_member_is_refused(data: bytes, choice: st.DataObject) -> None:
    """A cut connection must not become a cut log that says it is whole."""
    member = members.deflate(data)
    cut = choice.draw(st.integers(0, len(member) - 1))
    with pytest.raises(BadGzipError):
        members.measure(member[:cut], 10 * _MIB)


@given(st.binary(min_size=1, max_size=50))
@example(b"\0")
@example(_MEMBER)
def test_nothing_may_follow_a_member(more: bytes) -> None:
    """Concatenated members would make `logs.gz` differ from what was counted."""
    with pytest.raises(BadGzipError, match="follows"):
        members.measure(_MEMBER + more, 10 * _MIB)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """Whatever a client sends, it is a 400 and never a 500."""
    with pytest.raises(BadGzipError):
        members.inflate(data, _MIB)


@pytest.mark.parametrize("back", range(1, 9))
def test_a_wrong_trailer_is_refused(back: int) -> None:
    """CRC-32 and length stand in the last eight bytes: each of them is checked."""
    spoilt = bytearray(_MEMBER)
    spoilt[-back] ^= 0x10
    with pytest.raises(BadGzipError):
        members.measure(bytes(spoilt), 10 * _MIB)


@given(_data())
@settings(max_examples=50)
def test_the_limit_is_exact(data: bytes) -> None:
    """One byte too many is refused, however the steps fall."""
    data += b"."
    member = members.deflate(data)
    with pytest.raises(BadGzipError, match=f"more than {len(data) - 1} bytes"):
        members.inflate(member, len(data) - 1)


@pytest.mark.parametrize("read", [members.measure, members.inflate])
def test_a_bomb_takes_no_memory(read: object) -> None:
    """A few hundred kilobytes that inflate to 256 MiB must not be inflated to 256 MiB."""
    assert callable(read)
    deflater = isal_zlib.compressobj(1, isal_zlib.DEFLATED, 31)
    bomb = b"".join(deflater.compress(bytes(_MIB)) for _ in range(256)) + deflater.flush()
    tracemalloc.start()
    try:
        with pytest.raises(BadGzipError, match="inflates to more than"):
            read(bomb, _MIB)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * _MIB + len(bomb), f"{peak} bytes for a bomb of {len(bomb)}"


def test_what_takes_too_long_is_given_up() -> None:
    """Blocks that hold nothing cost time and no memory: the clock is looked at there, too."""
    nothing = b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + b"\0\0\0\xff\xff" * 300_000
    for member in (nothing, gzip.compress(bytes(2 * _MIB))):
        with pytest.raises(TooSlowError):
            members.measure(member, 10 * _MIB, members.deadline(0))
        with suppress(BadGzipError):
            members.measure(member, 10 * _MIB, members.deadline(60))
