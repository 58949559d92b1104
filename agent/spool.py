"""Files of what the API has not taken yet. They survive the agent, whatever kills it.

Records are appended to numbered segments and read back by their place; a segment is removed when
nothing in it is needed any more. Nothing is synced: what is written survives the agent, not a power
cut of its machine.

segment   frames; the first one is a Head
frame     length and CRC-32 of the body (4 bytes each, big-endian), then the body as msgpack
"""

import os
import re
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
from isal import isal_zlib
from msgspec import Struct

from schema.reports import LogChunk, Result
from schema.tasks import Stream

SEGMENT_BYTES = 16 * 1024 * 1024
"""A segment that has so much is closed: room comes back in such steps."""

_FRAME = struct.Struct("!II")
_SUFFIX = ".spool"
_NAME = re.compile("[0-9]{8,}")


class Head(Struct, frozen=True, array_like=True, tag="head"):
    """What a segment is for."""

    api_url: str


class ChunkRecord(Struct, frozen=True, array_like=True, tag="chunk"):
    """A chunk that is ready to be sent."""

    task: int
    attempt: int
    plain_bytes: int
    chunk: LogChunk


class TailRecord(Struct, frozen=True, array_like=True, tag="tail"):
    """Output that is in no chunk yet. Those of one chunk to be have the same `start`."""

    task: int
    attempt: int
    lease: str
    stream: Stream
    start: int
    """First byte of the chunk to be, in the stream."""
    offset: int
    """First byte of this piece, in the chunk to be."""
    data: bytes
    marks: bytes


class ResultRecord(Struct, frozen=True, array_like=True, tag="result"):
    """How an attempt ended."""

    task: int
    attempt: int
    result: Result


Record = Head | ChunkRecord | TailRecord | ResultRecord

_encode = msgspec.msgpack.Encoder().encode
_decoder: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)


class SpoolError(Exception):
    """What was written cannot be read again."""


class Place(NamedTuple):
    """Where a record is."""

    segment: int
    offset: int
    size: int
    """Of the whole frame, in bytes."""


class Found(NamedTuple):
    """A record of a dead agent, without the bytes and marks of output: they may be large."""

    place: Place
    record: Record


class Kept:
    """The records that hold one thing, and go when it is sent."""

    __slots__ = ("over", "places")

    def __init__(self) -> None:
        self.places: list[Place] = []
        self.over = False
        """It is sent: what is written of it from now on is not needed."""


class Spool:
    """The segments of one folder. To be used by one thread at a time."""

    def __init__(self, folder: Path, api_url: str) -> None:
        """Segments for another API are left alone: it may come back."""
        self._folder = folder
        self._head = Head(api_url)
        self._number = 0
        self._fd = -1
        self._at = 0
        self._sizes: dict[int, int] = {}
        self.bytes = 0
        """What all segments take on the disk; any thread may look."""
        self.strangers = 0
        """Segments that `recover` found, for another API, or with a head that is damaged."""
        self.damaged = 0
        """Records that `recover` found, and nobody can read."""

    def recover(self) -> list[Found]:
        """All whole records that are there, oldest first; OSError if they cannot be read."""
        found: list[Found] = []
        names = (path.stem for path in self._folder.glob(f"*{_SUFFIX}"))
        numbers = sorted(int(name) for name in names if _NAME.fullmatch(name))
        self._number = max(numbers, default=0)  # first of all: one that cannot be read stays there
        for number in numbers:
            frames = self._frames(number)
            head = next(frames, None)
            if head is not None and head[1] != self._head:
                self.strangers += 1
                continue
            self._resize(number, self._path(number).stat().st_size)
            before = len(found)
            for place, record in frames:
                if record is None:
                    self.damaged += 1
                else:
                    found.append(Found(place, record))
            if len(found) == before:
                self.drop(number)
        return found

    def _frames(self, number: int) -> Iterator[tuple[Place, Record | None]]:
        """Records, None where one is damaged; up to one that was being written at a death."""
        offset = 0
        with self._path(number).open("rb") as file:
            while head := file.read(_FRAME.size):
                if len(head) < _FRAME.size:
                    return
                size, _ = _FRAME.unpack(head)
                body = file.read(size)
                if len(body) < size:
                    return
                place = Place(number, offset, len(head) + len(body))
                offset += place.size
                try:
                    yield place, _without_bytes(_checked(head, body))
                except SpoolError:
                    yield place, None

    def write(self, records: Sequence[Record]) -> list[Place]:
        """Append records; all or none: OSError."""
        if self._fd < 0 or self._at >= SEGMENT_BYTES:
            self._begin()
        places = []
        frames = []
        at = self._at
        for record in records:
            body = _encode(record)
            frames += [_FRAME.pack(len(body), isal_zlib.crc32(body)), body]
            places.append(Place(self._number, at, _FRAME.size + len(body)))
            at += places[-1].size
        self._append(b"".join(frames))
        return places

    def _begin(self) -> None:
        self._end()
        self._folder.mkdir(mode=0o700, exist_ok=True)
        path = self._path(self._number + 1)
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self._number += 1
        self._at = 0
        body = _encode(self._head)
        try:
            self._append(_FRAME.pack(len(body), isal_zlib.crc32(body)) + body)
        except OSError:
            # What is written into a segment without a head is nobody's.
            self.drop(self._number)
            raise

    def _append(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError:
            # A frame that is cut would hide what follows it.
            os.ftruncate(self._fd, self._at)
            raise
        self._at += len(data)
        self._resize(self._number, self._at)

    def _resize(self, number: int, size: int) -> None:
        self.bytes += size - self._sizes.get(number, 0)
        self._sizes[number] = size

    def read(self, place: Place) -> Record:
        """Give a record again; SpoolError if it is not what was written."""
        try:
            fd = os.open(self._path(place.segment), os.O_RDONLY)
            try:
                frame = os.pread(fd, place.size, place.offset)
            finally:
                os.close(fd)
        except OSError as error:
            raise SpoolError(str(error)) from error
        return _checked(frame[: _FRAME.size], frame[_FRAME.size :])

    def drop(self, segment: int) -> None:
        """Remove a segment in which nothing is needed any more."""
        if segment == self._number:
            self._end()
        self._path(segment).unlink(missing_ok=True)
        self.bytes -= self._sizes.pop(segment, 0)

    def _end(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:08}{_SUFFIX}"

    def close(self) -> None:
        """Write no more; the files stay, an empty folder does not."""
        self._end()
        if not self._sizes and not self.strangers:
            try:
                self._folder.rmdir()
            except OSError:  # something of somebody else is in it
                return


def _without_bytes(record: Record) -> Record:
    if isinstance(record, ChunkRecord):
        chunk = msgspec.structs.replace(record.chunk, content=b"", marks=b"")
        return msgspec.structs.replace(record, chunk=chunk)
    if isinstance(record, TailRecord):
        return msgspec.structs.replace(record, data=b"", marks=b"")
    return record


def _checked(head: bytes, body: bytes) -> Record:
    if len(head) != _FRAME.size:
        raise SpoolError("it is cut")
    size, crc = _FRAME.unpack(head)
    if len(body) != size or isal_zlib.crc32(body) != crc:
        raise SpoolError("its bytes are not those that were written")
    try:
        return _decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise SpoolError(str(error)) from error
