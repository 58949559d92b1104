"""What a dead agent left in the state folder: its session, and output and results not yet taken.

session   the id of the newest session, until that is closed
spool/    see `agent.spool`
"""

import contextlib
import logging
import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct

from agent.parcels import Delivery, Parcel
from agent.spool import ChunkRecord, Found, Kept, Place, Record, ResultRecord, TailRecord
from agent.streams import MAX_MARKS, gzip_member
from schema import marks
from schema.reports import LogChunk
from schema.sessions import Held
from schema.tasks import Stream

log = logging.getLogger("agent")

_Where = tuple[Held, Stream, int]
"""(attempt, stream, first byte): what is one chunk, cut or to be cut."""


class _Note(Struct, frozen=True):
    api_url: str
    session: str
    folder: str = ""


class SessionNote:
    """The file with the session's id, which only its owner may read."""

    def __init__(self, path: Path, api_url: str, folder: str) -> None:
        """`folder` is the state folder's id: in a copy the session may be a living agent's."""
        self._path = path
        self._api_url = api_url
        self._folder = folder

    def read(self) -> str | None:
        """The session of an agent that did not close it; None where there is none."""
        try:
            note = msgspec.json.decode(self._path.read_bytes(), type=_Note)
        except (OSError, msgspec.MsgspecError):
            return None
        ours = note.api_url == self._api_url and note.folder == self._folder
        return note.session if ours else None

    def write(self, session: str) -> None:
        """Replace the note; it is only there to save time, so a full disk does not matter."""
        new = self._path.with_suffix(".new")
        try:
            new.unlink(missing_ok=True)
            fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write(msgspec.json.encode(_Note(self._api_url, session, self._folder)))
            new.replace(self._path)
        except OSError as error:
            log.warning("the session's id cannot be kept in %s: %s", self._path, error)

    def clear(self) -> None:
        """The session is closed: nothing of it is left."""
        with contextlib.suppress(OSError):  # else the next agent says that it replaces the session
            self._path.unlink()


class Inheritance(NamedTuple):
    """What is to be sent in the name of the dead."""

    deliveries: list[Delivery]
    parcels: list[Parcel]
    """Those of attempts that had ended come first: their results may still count."""

    @property
    def results(self) -> set[Held]:
        """Attempts that had ended."""
        return {each.key for each in self.deliveries if each.result is not None}


def rebuild(found: Iterable[Found], read: Callable[[Place], Record]) -> Inheritance:
    """Put records together again. A tail whose chunk was cut and kept goes with that chunk.

    `read` gives a whole record, or raises SpoolError.
    """
    deliveries: dict[Held, Delivery] = {}
    cut: dict[_Where, Parcel] = {}
    tails: defaultdict[_Where, list[Place]] = defaultdict(list)
    for place, record in found:
        if isinstance(record, ChunkRecord):
            chunk = record.chunk
            delivery = _delivery(deliveries, (record.task, record.attempt), chunk.lease)
            where = (delivery.key, chunk.stream, chunk.offset)
            cut[where] = Parcel.on_disk(delivery, record, place)
        elif isinstance(record, TailRecord):
            delivery = _delivery(deliveries, (record.task, record.attempt), record.lease)
            tails[delivery.key, record.stream, record.start].append(place)
        elif isinstance(record, ResultRecord):
            key = (record.task, record.attempt)
            delivery = _delivery(deliveries, key, record.result.lease)
            delivery.result = record.result
            delivery.keep(place)
    for where, places in tails.items():
        if where in cut:
            cut[where].kept.places += places
        else:
            cut[where] = _from_tails(deliveries[where[0]], where, places, read)
    parcels = sorted(cut.values(), key=lambda parcel: parcel.delivery.result is None)
    return Inheritance(list(deliveries.values()), parcels)


def _delivery(deliveries: dict[Held, Delivery], key: Held, lease: str) -> Delivery:
    return deliveries.setdefault(key, Delivery(key, lease))


def _from_tails(
    delivery: Delivery, where: _Where, places: list[Place], read: Callable[[Place], Record]
) -> Parcel:
    data = b""
    times: list[marks.Mark] = []
    for place in places:
        piece = read(place)
        assert isinstance(piece, TailRecord), "it was one when it was found"
        if piece.offset != len(data):
            break  # what follows a gap has no place
        data += piece.data
        times += marks.decode(piece.marks)
    if times and times[0][0] != 0:  # the first of many is left out now and then
        times.insert(0, (0, times[0][1] - 1))
    while len(times) > MAX_MARKS:  # pieces have as many each: so many would be refused
        times = times[::2]
    _, stream, start = where
    chunk = LogChunk(
        lease=delivery.lease,
        stream=stream,
        offset=start,
        content=gzip_member(data),
        marks=marks.encode(times),
    )
    kept = Kept()
    kept.places += places
    parcel = Parcel(delivery, chunk, len(data), kept)
    parcel.from_tail = True
    return parcel
