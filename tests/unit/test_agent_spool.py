"""The spool's files, and what is made of them after a death."""

import gzip
import os
import resource
import signal
import tracemalloc
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent import spool as module
from agent.inheritance import rebuild
from agent.parcels import Delivery, Parcel, TailParcel
from agent.session_note import SessionNote
from agent.spool import ChunkRecord, Kept, Record, ResultRecord, Spool, SpoolError
from agent.streams import Cut, MarkClock, StreamBuffer, Tail
from schema import marks
from schema.reports import LogChunk, Result
from schema.tasks import Stream

URL = "http://127.0.0.1:3000"


def _chunk(number: int, content: bytes = b"content") -> ChunkRecord:
    chunk = LogChunk(lease=f"{number}.1", stream="stdout", offset=number, content=content)
    return ChunkRecord(number, 1, len(content), chunk)


def _result(number: int) -> ResultRecord:
    return ResultRecord(number, 1, Result(lease=f"{number}.1", reason="exit", exit_code=0))


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*"))


def test_what_is_written_is_read_and_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the agent that wrote it, and by the next one."""
    monkeypatch.setattr(module, "SEGMENT_BYTES", 200)
    spool = Spool(tmp_path / "spool", URL)
    records: list[Record] = [_chunk(1), _result(1), _chunk(2, b"x" * 300), _chunk(3)]
    places = [spool.write([record])[0] for record in records]
    assert [spool.read(place) for place in places] == records
    assert len(_files(tmp_path / "spool")) > 1
    assert spool.bytes == sum(path.stat().st_size for path in (tmp_path / "spool").glob("*"))
    again = Spool(tmp_path / "spool", URL)
    found = again.recover()
    assert [each.place for each in found] == places
    assert found[1].record == records[1]
    assert again.bytes == spool.bytes
    assert again.write([_chunk(4)])[0].segment > places[-1].segment


def test_room_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Segment by segment, also the one that is being written; in the end nothing is there."""
    monkeypatch.setattr(module, "SEGMENT_BYTES", 100)
    spool = Spool(tmp_path / "spool", URL)
    segments = [spool.write([_chunk(number)])[0].segment for number in range(4)]
    for segment in set(segments):
        spool.drop(segment)
    assert (_files(tmp_path / "spool"), spool.bytes) == ([], 0)
    (place,) = spool.write([_chunk(9)])
    assert spool.read(place) == _chunk(9)
    spool.drop(place.segment)
    spool.close()
    assert not (tmp_path / "spool").exists()


def test_a_torn_end_costs_what_is_torn(tmp_path: Path) -> None:
    """An agent that is killed while it writes must not take older records with it."""
    first = Spool(tmp_path, URL)
    places = [first.write([_chunk(number)])[0] for number in range(3)]
    path = tmp_path / _files(tmp_path)[0]
    for length in range(places[2].offset + 1, places[2].offset + places[2].size):
        os.truncate(path, length)
        assert [each.place for each in Spool(tmp_path, URL).recover()] == places[:2]


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    """What a broken disk gives back is never sent as somebody's log."""
    spool = Spool(tmp_path, URL)
    places = [spool.write([_chunk(number)])[0] for number in range(3)]
    path = tmp_path / _files(tmp_path)[0]
    data = bytearray(path.read_bytes())
    data[places[1].offset + 20] ^= 1
    path.write_bytes(data)
    with pytest.raises(SpoolError, match="not those"):
        spool.read(places[1])
    again = Spool(tmp_path, URL)
    assert [each.place for each in again.recover()] == [places[0], places[2]]
    assert again.damaged == 1


def test_another_apis_output_waits_for_an_agent_of_that_api(tmp_path: Path) -> None:
    """Sent to the wrong one it would be refused, and lost."""
    Spool(tmp_path, "http://other").write([_chunk(1)])
    here = Spool(tmp_path, URL)
    assert here.recover() == []
    assert here.strangers == 1
    (place,) = here.write([_chunk(2)])
    here.drop(place.segment)
    here.close()
    assert [each.record for each in Spool(tmp_path, "http://other").recover()] == [
        ChunkRecord(1, 1, 7, LogChunk(lease="1.1", stream="stdout", offset=1, content=b""))
    ]


@contextmanager
def _largest_file(size: int) -> Iterator[None]:
    """Let this process write no larger files: a disk that is full, for one process."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    """Half a record would hide all that follows."""
    spool = Spool(tmp_path, URL)
    (first,) = spool.write([_chunk(1)])
    with _largest_file(8192), pytest.raises(OSError, match="File too large"):
        spool.write([_chunk(2, os.urandom(6000)), _chunk(3, os.urandom(6000))])
    (last,) = spool.write([_chunk(4)])
    assert [each.place for each in Spool(tmp_path, URL).recover()] == [first, last]


def test_a_disk_that_was_full_when_a_segment_began_hides_nothing(tmp_path: Path) -> None:
    """Without its head the next agent takes a segment for another API's, and sends none of it."""
    spool = Spool(tmp_path, URL)
    with _largest_file(0), pytest.raises(OSError, match="File too large"):
        spool.write([_chunk(1)])
    assert _files(tmp_path) == []
    places = spool.write([_chunk(2)])
    again = Spool(tmp_path, URL)
    assert [each.place for each in again.recover()] == places
    assert again.strangers == 0


def test_files_that_are_no_segments_are_left_alone(tmp_path: Path) -> None:
    """Somebody may put a copy beside one; the agent must start all the same."""
    (place,) = Spool(tmp_path, URL).write([_chunk(1)])
    for name in ("00000001 (copy).spool", "1.spool"):
        (tmp_path / name).write_bytes(b"")
    assert [each.place for each in Spool(tmp_path, URL).recover()] == [place]


def test_a_segment_that_cannot_be_read_stays_and_another_is_begun(tmp_path: Path) -> None:
    """It may be another user's, of an agent that ran as root: what is new has to be kept, too."""
    (tmp_path / "00000001.spool").mkdir()
    (tmp_path / "00000002.spool").touch()
    spool = Spool(tmp_path, URL)
    with pytest.raises(OSError, match="directory"):
        spool.recover()
    (place,) = spool.write([_chunk(3)])
    assert place.segment == 3


def test_the_note_of_a_session(tmp_path: Path) -> None:
    """It is a secret, and means nothing to another API or in a copy of the folder."""
    note = SessionNote(tmp_path / "session", URL, "0123")
    assert note.read() is None
    note.write("first")
    note.write("second")
    assert note.read() == "second"
    assert (tmp_path / "session").stat().st_mode & 0o777 == 0o600
    assert SessionNote(tmp_path / "session", "http://other", "0123").read() is None
    assert SessionNote(tmp_path / "session", URL, "4567").read() is None
    note.clear()
    assert note.read() is None
    (tmp_path / "session").write_text("{")
    assert note.read() is None


_streams: tuple[Stream, ...] = ("stdout", "stderr")
_steps = st.lists(
    st.tuples(
        st.sampled_from(_streams),
        st.one_of(st.binary(min_size=1, max_size=30), st.sampled_from(["tail", "cut"])),
        st.booleans(),
    ),
    max_size=30,
)


class _Attempt:
    """Writes; what it wrote is cut, kept in pieces, kept as a chunk, or sent."""

    def __init__(self, folder: Path, chunk_bytes: int) -> None:
        self.spool = Spool(folder, URL)
        self.delivery = Delivery((7, 2), "7.2")
        clock = MarkClock()
        self.buffers = {stream: StreamBuffer(clock, chunk_bytes) for stream in _streams}
        self.written: defaultdict[Stream, bytes] = defaultdict(bytes)
        self.safe: dict[Stream, int] = dict.fromkeys(_streams, 0)
        """So many bytes were sent or kept."""
        self.sent: dict[tuple[Stream, int], bytes] = {}

    def step(self, stream: Stream, step: bytes | str, *, by_disk: bool) -> None:
        buffer = self.buffers[stream]
        if isinstance(step, bytes):
            self.written[stream] += step
            for cut in buffer.append(step, 5, 0.0):
                self._leave(stream, cut, by_disk=by_disk)
        elif step == "cut" and (last := buffer.flush()):
            self._leave(stream, last, by_disk=by_disk)
        elif step == "tail" and (tail := buffer.tail_older(0.0)):
            self.spool.write([TailParcel(self.delivery, stream, tail).record])
            self.safe[stream] = tail.start + tail.offset + len(tail.data)

    def _leave(self, stream: Stream, cut: Cut, *, by_disk: bool) -> None:
        self.safe[stream] = cut.offset + cut.size
        if not by_disk:
            self.sent[stream, cut.offset] = b"".join(cut.pieces)
            return
        chunk = LogChunk(
            lease="7.2", stream=stream, offset=cut.offset, content=cut.gzip_member(),
            marks=marks.encode(cut.marks),
        )  # fmt: skip
        self.spool.write([Parcel(self.delivery, chunk, cut.size, cut.kept).record])


def _arrives(folder: Path) -> Iterator[tuple[Stream, int, bytes]]:
    """What the next agent sends: stream, first byte, bytes."""
    spool = Spool(folder, URL)
    for parcel in rebuild(spool.recover(), spool.read).parcels:
        record = parcel.record if parcel.place is None else spool.read(parcel.place)
        assert isinstance(record, ChunkRecord)
        data = gzip.decompress(record.chunk.content)
        times = marks.decode(record.chunk.marks)
        assert times
        marks.check(times, len(data))
        yield record.chunk.stream, record.chunk.offset, data


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=_steps, chunk_bytes=st.integers(1, 40))
def test_what_was_kept_or_sent_is_whole_after_a_death(
    tmp_path: Path, steps: list[tuple[Stream, bytes | str, bool]], chunk_bytes: int
) -> None:
    """Whatever was cut, kept in pieces, kept as a chunk, or sent before: no byte is missing."""
    for path in tmp_path.glob("*"):
        path.unlink()
    attempt = _Attempt(tmp_path, chunk_bytes)
    for stream, step, by_disk in steps:
        attempt.step(stream, step, by_disk=by_disk)
    stored = attempt.sent
    for stream, offset, data in _arrives(tmp_path):
        # Where a tail's chunk was sent before, the API has more, and keeps that.
        stored.setdefault((stream, offset), data)
    for stream in _streams:
        log = b""
        for (_, offset), data in sorted(each for each in stored.items() if each[0][0] == stream):
            assert offset == len(log)
            log += data
        assert log == attempt.written[stream][: attempt.safe[stream]]


def test_a_dead_agents_output_is_not_in_memory(tmp_path: Path) -> None:
    """Pieces whose chunks were written later take most of a spool, which may be 1 GiB."""
    spool = Spool(tmp_path, URL)
    delivery = Delivery((1, 1), "1.1")
    for number in range(64):
        tail = Tail(number * 500_000, 0, bytes(500_000), [(0, 1)], Kept())
        chunk = LogChunk(lease="1.1", stream="stdout", offset=tail.start, content=b"gzip")
        spool.write([TailParcel(delivery, "stdout", tail).record])
        spool.write([ChunkRecord(1, 1, 500_000, chunk)])
    tracemalloc.start()
    try:
        left = rebuild(spool.recover(), spool.read)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(left.parcels) == 64
    assert most < 5_000_000


def test_a_chunk_put_together_has_no_more_marks_than_one_may_have(tmp_path: Path) -> None:
    """Each piece may have as many as a whole chunk; with more its bytes would be refused."""
    spool = Spool(tmp_path, URL)
    delivery = Delivery((1, 1), "1.1")
    buffer = StreamBuffer(MarkClock(), 524_288)
    size = 0
    for second in range(20):
        for each in range(2000):
            now_us = 1_700_000_000_000_000 + second * 1_000_000 + each * 500
            buffer.append(b"12345", now_us, second)
            size += 5
        tail = buffer.tail_older(second)
        assert tail is not None
        spool.write([TailParcel(delivery, "stdout", tail).record])
    ((_, _, data),) = _arrives(tmp_path)
    assert len(data) == size


def test_finished_attempts_are_sent_first(tmp_path: Path) -> None:
    """Their results count only as long as the dead session lives."""
    spool = Spool(tmp_path, URL)
    spool.write([_chunk(1), _chunk(2), _result(2), _chunk(3)])
    left = rebuild(spool.recover(), spool.read)
    assert [parcel.delivery.key for parcel in left.parcels] == [(2, 1), (1, 1), (3, 1)]
    assert left.results == {(2, 1)}
