"""A log that may hold so much has its head and its tails, and says what went between them."""

import re
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.abridging import TAIL_BYTES, Abridging
from agent.streams import MAX_MARKS
from schema.reports import MIN_LOG_BYTES
from schema.tasks import Stream

_MARKER = re.compile(rb"\n?\[([0-9,]+) bytes in ([0-9,]+) lines of (\w+) are left out here: .*\]\n")
_STREAMS: tuple[Stream, ...] = ("stdout", "stderr")


class _Log:
    """What comes of two streams that are abridged."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.abridging = Abridging(most_bytes)
        self.written = dict.fromkeys(_STREAMS, b"")
        self.heads = dict.fromkeys(_STREAMS, b"")
        self.logs = dict.fromkeys(_STREAMS, b"")
        self.times: list[int] = []
        self._now_us = 0

    def write(self, stream: Stream, data: bytes) -> None:
        self._now_us += 10
        self.written[stream] += data
        self.heads[stream] += self.abridging.take(stream, data, self._now_us)

    def end(self) -> None:
        self.logs = dict(self.heads)
        for stream, piece in self.abridging.rest():
            self.times.append(piece.time_us)
            self.logs[stream] += piece.data


_writes = st.lists(
    st.tuples(
        st.sampled_from(_STREAMS),
        st.integers(1, 30_000),
        st.sampled_from([b"x", b"line\n", b"\n", b"a long line of some text without an end "]),
    ),
    max_size=30,
)


@given(_writes, st.integers(MIN_LOG_BYTES, MIN_LOG_BYTES + 20_000))
@settings(max_examples=300)
def test_head_marker_and_tail_make_up_the_log(
    writes: list[tuple[Stream, int, bytes]], most_bytes: int
) -> None:
    """Nothing is dropped but what the marker counts, to the byte and the line."""
    log = _Log(most_bytes)
    for stream, size, text in writes:
        log.write(stream, (text * size)[:size])
    log.end()
    assert sum(map(len, log.logs.values())) <= most_bytes
    for stream in _STREAMS:
        written, whole, head = log.written[stream], log.logs[stream], log.heads[stream]
        left_out = log.abridging.left_out(stream)
        if not left_out:
            assert whole == written
            continue
        marker = _MARKER.match(whole, len(head))
        assert marker, whole[len(head) : len(head) + 100]
        size, lines = (int(number.replace(b",", b"")) for number in marker.groups()[:2])
        tail = whole[marker.end() :]
        gone = written[len(head) : len(written) - len(tail)]
        assert written == head + gone + tail
        assert (size, lines) == (len(gone), gone.count(b"\n")) == (left_out, lines)
        assert marker[3] == stream.encode()
        assert whole[marker.start()] == ord("\n") or head.endswith(b"\n")
    if sum(map(len, log.written.values())) <= most_bytes // 2 - 1000:
        assert log.heads == log.written, "it is not over the limit, and must not wait"
    assert all(time <= later for time, later in pairwise(log.times))


def test_the_tail_is_the_last_mebibyte_from_the_beginning_of_a_line() -> None:
    """The end of a log tells why it ended: it must be long enough to be of use."""
    log = _Log(8 * TAIL_BYTES)
    line = b"%09d: " + b"x" * 88 + b"\n"
    for start in range(0, 200_000, 2000):
        log.write("stdout", b"".join(line % number for number in range(start, start + 2000)))
    log.end()
    whole = log.logs["stdout"]
    marker = _MARKER.search(whole)
    assert marker
    tail = whole[marker.end() :]
    assert TAIL_BYTES - 100 < len(tail) <= TAIL_BYTES
    assert len(tail) % 100 == 0
    assert tail.endswith(line % 199_999)
    assert len(whole) > 6.9 * TAIL_BYTES


def test_a_bytewise_writer_takes_no_more_memory_than_its_bytes() -> None:
    """An object for each byte would weigh a hundred times as much."""
    abridging = Abridging(MIN_LOG_BYTES)
    abridging.take("stdout", b"x" * MIN_LOG_BYTES, 1)
    for number in range(20_000):
        abridging.take("stdout", b"%d" % (number % 10), number)
    assert len(abridging._tails["stdout"]._pieces) <= MAX_MARKS
    pieces = [piece for _, piece in abridging.rest()]
    assert b"".join(piece.data for piece in pieces).endswith(b"56789")
    assert pieces[-1].time_us > 19_900


def test_what_one_stream_writes_leaves_the_others_tail_alone() -> None:
    """An error on stderr must not be lost in what stdout floods."""
    log = _Log(MIN_LOG_BYTES)
    log.write("stdout", b"flood\n" * 100_000)
    log.write("stderr", b"the reason\n")
    log.write("stdout", b"flood\n" * 100_000)
    log.end()
    assert log.logs["stderr"] == b"the reason\n"
    assert log.abridging.left_out("stderr") == 0
    assert log.abridging.left_out("stdout") > 1_100_000
