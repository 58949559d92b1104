"""What a dead agent left in its spool, put together again: output and results not yet taken."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import NamedTuple

from agent.parcels import Delivery, Parcel
from agent.spool import ChunkRecord, Found, Kept, Place, Record, ResultRecord, TailRecord
from agent.streams import MAX_MARKS, gzip_member
from schema import marks
from schema.reports import LogChunk
from schema.sessions import Held
from schema.tasks import Stream

_Where = tuple[Held, Stream, int]
"""(attempt, stream, first byte): what is one chunk, cut or to be cut."""


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
