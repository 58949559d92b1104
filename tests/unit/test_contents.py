"""What a log says of itself: exactly what is missing, and whether it is what was written."""

import zlib
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from isal import isal_zlib

from api.contents import StreamContents, describe, joined_crc
from api.store.logs import CUT_BY_AGENT, CUT_BY_API, AttemptPlace
from schema.reports import StreamTotal
from tests.unit.extents import extents_of, place


def _judge(where: AttemptPlace, *chunks: tuple[int, int], expired: bool = False) -> StreamContents:
    extents = extents_of((position, size, 0, 0) for position, size in chunks)
    return describe(where, "stdout", extents, expired=expired)


def _stored(pieces: list[bytes], declared: StreamTotal | None) -> StreamContents:
    """Judge these pieces, which follow one another."""
    at, rows = 0, []
    for piece in pieces:
        rows.append((at, len(piece), 0, zlib.crc32(piece)))
        at += len(piece)
    return describe(place(declared=declared), "stdout", extents_of(rows), expired=False)


@given(
    st.lists(st.tuples(st.integers(1, 5), st.booleans()), max_size=12),
    st.booleans(),
    st.sampled_from(["declared", "undeclared"]),
)
@settings(max_examples=200)
def test_missing_is_exactly_what_never_arrived(
    pieces: list[tuple[int, bool]], ended: bool, total: str
) -> None:
    """Counted byte by byte: people act on these ranges, so they must be neither more nor less."""
    stored, there, end = [], set(), 0
    for size, arrived in pieces:
        if arrived:
            stored.append((end, size))
            there |= set(range(end, end + size))
        end += size
    declared = StreamTotal(end, 0) if ended and total == "declared" else None
    contents = _judge(place(ended=ended, declared=declared), *stored)
    last = end if declared is not None else max(there, default=-1) + 1
    gaps = set(range(last)) - there
    if not ended:
        assert contents.state == "open"
        assert contents.missing == ()
        joined = min(gaps, default=last)
        assert contents.summary().bytes == joined
    else:
        named = {byte for first, stop in contents.missing for byte in range(first, stop)}
        assert named == gaps
        assert all(stop < first for (_, stop), (first, _) in pairwise(contents.missing))
        assert contents.summary().bytes == len(there)
        whole = "complete" if declared is not None else "undeclared"
        assert contents.state == ("missing" if gaps else whole)


def test_an_expired_log_promises_nothing() -> None:
    """Retention took it: it must not look as if an agent had lost it."""
    contents = _judge(place(declared=StreamTotal(10, 1)), expired=True)
    assert contents.state == "expired"
    assert contents.missing == ()


def test_batches_of_a_pulled_task_are_laid_end_to_end() -> None:
    """Their positions are batch numbers, which say nothing about bytes."""
    contents = _judge(place(pulled=True), (0, 100), (1, 50), (2, 7))
    assert list(contents.starts) == [0, 100, 150]
    assert contents.state == "undeclared"
    assert [contents.told_before(number) for number in range(3)] == [0, 0, 0]
    assert _judge(place(pulled=True), (0, 100), (7, 50)).summary().bytes == 150


def test_a_running_pulled_task_shows_no_batch_that_overtook_another() -> None:
    """A follower asks from its byte offset on: bytes must not slip in before it later."""
    contents = _judge(place(pulled=True, ended=False), (0, 100), (2, 7))
    assert list(contents.starts) == [0]
    assert contents.state == "open"


# Whether it is what was written


@given(st.lists(st.binary(max_size=300), max_size=12), st.integers(1, 2000))
@settings(max_examples=200)
def test_the_crc_of_the_whole_is_made_of_those_of_the_pieces(
    pieces: list[bytes], repeat: int
) -> None:
    """Nothing is read or inflated for it."""
    pieces = [piece * repeat for piece in pieces]
    rows = ((0, len(piece), 0, zlib.crc32(piece)) for piece in pieces)
    assert joined_crc(extents_of(rows)) == zlib.crc32(b"".join(pieces))


def test_a_log_of_many_gigabytes_has_a_crc_too() -> None:
    """What stands in front is moved by all that follows: by more than 32 bits can count."""
    head, zeros = b"some text in front", bytes(2**20)
    rows = [(0, len(head), 0, zlib.crc32(head)), *[(0, 2**20, 0, zlib.crc32(zeros))] * 4200]
    step = zlib.crc32(head)
    for _ in range(4200):
        step = isal_zlib.crc32(zeros, step)
    assert joined_crc(extents_of(rows)) == step


@given(st.lists(st.binary(min_size=1, max_size=9), min_size=1, max_size=5), st.data())
@settings(max_examples=200)
def test_a_log_of_other_bytes_than_were_written_is_damaged(
    pieces: list[bytes], data: st.DataObject
) -> None:
    """One bit, somewhere: all sizes agree, and only the CRC can tell."""
    written = b"".join(pieces)
    declared = StreamTotal(len(written), zlib.crc32(written))
    assert _stored(pieces, declared).state == "complete"
    which = data.draw(st.integers(0, len(pieces) - 1))
    at = data.draw(st.integers(0, len(pieces[which]) * 8 - 1))
    flipped = bytearray(pieces[which])
    flipped[at // 8] ^= 1 << at % 8
    pieces[which] = bytes(flipped)
    contents = _stored(pieces, declared)
    assert contents.state == "damaged"
    assert contents.missing == ()
    assert _stored(pieces, None).state == "undeclared"


@pytest.mark.parametrize("more", [b"x", b"\0" * 1000])
def test_a_log_with_more_than_was_written_is_damaged(more: bytes) -> None:
    """Its agent says how much there was: what stands behind that is not its own."""
    assert _stored([b"abc", more], StreamTotal(3, zlib.crc32(b"abc"))).state == "damaged"
    beyond = _judge(place(declared=StreamTotal(8, 0)), (0, 3), (10, len(more)))
    assert (beyond.state, beyond.missing) == ("damaged", ((3, 10),))


_AGENT, _API = CUT_BY_AGENT["stdout"], CUT_BY_API["stdout"]


@pytest.mark.parametrize(
    ("where", "chunks", "state", "missing"),
    [
        ({"cut": _AGENT, "declared": 10}, [(0, 10)], "cut", ()),
        ({"cut": _AGENT, "declared": 10}, [(0, 4), (6, 4)], "missing", ((4, 6),)),
        ({"cut": _AGENT, "declared": 10}, [(0, 9)], "missing", ((9, 10),)),
        ({"cut": _AGENT}, [(0, 10)], "undeclared", ()),
        ({"cut": _API, "declared": 30}, [(0, 10), (10, 5)], "cut", ((15, 30),)),
        ({"cut": _API, "declared": 30}, [(0, 5), (10, 5)], "missing", ((5, 10), (15, 30))),
        ({"cut": _API}, [(0, 10)], "undeclared", ()),
        ({"cut": _API, "pulled": True}, [(0, 10), (1, 5)], "cut", ()),
        ({"cut": _API, "ended": False}, [(0, 10)], "open", ()),
        ({"cut": _API, "declared": 5}, [(0, 10)], "damaged", ()),
        ({"cut": CUT_BY_AGENT["stderr"] | CUT_BY_API["stderr"], "declared": 10}, [(0, 10)],
         "complete", ()),
    ],
)  # fmt: skip
def test_a_log_that_was_cut_says_so_and_is_whole_but_for_that(
    where: dict[str, Any],
    chunks: list[tuple[int, int]],
    state: str,
    missing: tuple[tuple[int, int], ...],
) -> None:
    """Only what the limit took is excused, and only for the stream that had too much."""
    if declared := where.get("declared"):
        where = where | {"declared": StreamTotal(declared, zlib.crc32(bytes(10)))}
    rows = ((position, size, 0, zlib.crc32(bytes(size))) for position, size in chunks)
    contents = describe(place(**where), "stdout", extents_of(rows), expired=False)
    assert (contents.state, contents.missing) == (state, missing)


_chunks = st.dictionaries(st.integers(0, 12), st.integers(1, 6), min_size=1, max_size=6)


@given(_chunks, st.booleans(), st.booleans())
@settings(max_examples=400)
def test_chunks_that_overlap_bring_each_byte_once(
    chunks: dict[int, int], ended: bool, declared: bool
) -> None:
    """Only a broken agent sends such, and its log says so; offsets must stay those of bytes."""
    stored = sorted(chunks.items())
    total = StreamTotal(30, 0) if declared else None
    contents = _judge(place(ended=ended, declared=total), *stored)
    shown: list[int] = []
    for number, start in enumerate(contents.starts):
        position, size = stored[number]
        told = contents.told_before(number)
        assert start == position + told
        shown += range(start, position + size)
    there = {byte for position, size in stored for byte in range(position, position + size)}
    if not ended:
        there = set(range(next(byte for byte in range(40) if byte not in there)))
    assert shown == sorted(there)
    assert contents.summary().bytes == len(shown)
    overlap = sum(chunks.values()) > len(there)
    if ended and overlap:
        assert contents.state == "damaged"
    elif ended and declared:
        assert contents.state == "missing"
        assert contents.missing[-1][1] == 30
    for offset in range(40):
        first = contents.chunk_at(offset)
        behind = [at for number in range(first, len(contents.starts))
                  for at in range(contents.starts[number], sum(stored[number]))]  # fmt: skip
        assert [at for at in behind if at >= offset] == [at for at in shown if at >= offset]
