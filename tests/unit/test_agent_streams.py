"""Bytes and times go in, chunks come out: nothing lost, nothing too large, times increasing."""

import gzip
import zlib
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from agent.streams import MAX_MARKS, Cut, MarkClock, StreamBuffer
from schema import marks

steps = st.lists(
    st.one_of(st.binary(max_size=40), st.just("flush"), st.just("older"), st.just("earlier")),
    max_size=40,
)


@given(steps=steps, chunk_bytes=st.integers(1, 50))
def test_any_sequence_of_reads_and_cuts_comes_together_again(
    steps: list[bytes | str], chunk_bytes: int
) -> None:
    """This is the whole promise of the module."""
    buffer = StreamBuffer(MarkClock(), chunk_bytes)
    cuts: list[Cut] = []
    now_us = 1000
    now_s = 0.0
    written = b""
    for step in steps:
        now_us += 7
        now_s += 7
        if isinstance(step, bytes):
            written += step
            cuts += buffer.append(step, now_us, now_s)
        elif step == "earlier":  # somebody sets the clock back
            now_us -= 500
        else:
            cut = buffer.flush() if step == "flush" or buffer.older(now_s - 10) else None
            cuts += [cut] if cut else []
    last = buffer.flush()
    cuts += [last] if last else []
    assert b"".join(gzip.decompress(cut.gzip_member()) for cut in cuts) == written
    assert buffer.total() == type(buffer.total())(len(written), zlib.crc32(written))
    offset = 0
    for cut in cuts:
        assert cut.offset == offset
        assert 0 < cut.size <= chunk_bytes
        marks.check(cut.marks, cut.size)
        offset += cut.size
    times = [time for cut in cuts for _, time in cut.marks]
    assert all(time < later for time, later in pairwise(times))


def test_two_streams_share_one_clock() -> None:
    """Or their lines could not be put in order."""
    clock = MarkClock()
    out, err = StreamBuffer(clock, 100), StreamBuffer(clock, 100)
    for buffer in (out, err, out):
        buffer.append(b"x", 5, 0)
    cuts = [out.flush(), err.flush()]
    assert [cut.marks for cut in cuts if cut] == [[(0, 5), (1, 7)], [(0, 6)]]


def test_many_small_reads_stay_small() -> None:
    """A task that writes byte by byte must not cost forty times its output in memory."""
    buffer = StreamBuffer(MarkClock(), 1_000_000)
    for number in range(20_000):
        assert buffer.append(b"%d" % (number % 10), number, 0) == []
    cut = buffer.flush()
    assert cut is not None
    assert len(cut.pieces) <= MAX_MARKS + 1
    assert MAX_MARKS // 2 <= len(cut.marks) <= MAX_MARKS
    marks.check(cut.marks, cut.size)
    assert gzip.decompress(cut.gzip_member()) == b"0123456789" * 2000


def test_only_old_output_is_flushed() -> None:
    """One ticker asks all streams; people who set the clock back wait no longer for output."""
    buffer = StreamBuffer(MarkClock(), 100)
    assert not buffer.older(10**9)
    buffer.append(b"x", 1_000_000, 50)
    buffer.append(b"y", 10, 90)
    assert not buffer.older(49.9)
    assert buffer.older(50)
    cut = buffer.flush()
    assert cut is not None
    assert cut.pieces == [b"x", b"y"]
    assert not buffer.older(10**9)
