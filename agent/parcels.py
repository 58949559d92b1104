"""What is on its way to the API: chunks and results, each in memory, on the disk, or in both."""

from collections import Counter
from typing import NamedTuple, Protocol

from agent.spool import ChunkRecord, Kept, Place, Record, ResultRecord, TailRecord
from agent.streams import Tail
from schema import marks
from schema.reports import LogChunk, Result
from schema.sessions import Held
from schema.tasks import Stream

_OVERHEAD_BYTES = 300  # of a chunk on the wire, beside its content and marks
_OBJECT_BYTES = 500  # of a chunk in memory, also where its content is on the disk only

LARGE_BYTES = 262_144
"""A batch of so much leaves beside another one. Small ones leave one at a time, so that what piles
up meanwhile goes together: each costs the API a request and a transaction."""


class Keepable(Protocol):
    """What can be kept on the disk."""

    kept: Kept

    @property
    def record(self) -> Record:
        """What is written of it."""

    def keep(self, place: Place) -> None:
        """Note that it is written there."""


class Delivery:
    """What one attempt has still to send. Its own record is that of its result."""

    __slots__ = ("flying", "kept", "key", "lease", "result", "waiting")

    def __init__(self, key: Held, lease: str) -> None:
        self.key = key
        self.lease = lease
        self.waiting = 0  # chunks that compress or stand in the queue
        self.flying: Counter[Stream] = Counter()  # chunks in requests that are under way
        self.result: Result | None = None
        self.kept = Kept()

    @property
    def record(self) -> ResultRecord:
        """Its result, which must be there."""
        assert self.result is not None
        return ResultRecord(*self.key, self.result)

    def keep(self, place: Place) -> None:
        """Note that the result is written there."""
        self.kept.places.append(place)


class Parcel:
    """One chunk on its way."""

    __slots__ = (
        "chunk", "delivery", "flying", "from_tail", "kept", "leads", "place", "plain_bytes",
        "resent", "stream", "weight", "wire_bytes",
    )  # fmt: skip

    def __init__(self, delivery: Delivery, chunk: LogChunk, plain_bytes: int, kept: Kept) -> None:
        """`kept` has what was written of it while it was no chunk yet."""
        self.delivery = delivery
        self.chunk: LogChunk | None = chunk
        self.stream = chunk.stream
        self.plain_bytes = plain_bytes
        self.kept = kept
        self.wire_bytes = len(chunk.content) + len(chunk.marks) + _OVERHEAD_BYTES
        """What it weighs in a request."""
        self.place: Place | None = None
        self.flying = False
        self.leads = False
        """The next one was cut together with it."""
        self.resent = False
        """It may have arrived before."""
        self.from_tail = False
        """A dead agent had not cut it yet: the API may have it as a part of a larger one."""
        self.weight = 0
        """What it was last found to weigh in memory."""

    @classmethod
    def on_disk(cls, delivery: Delivery, record: ChunkRecord, place: Place) -> "Parcel":
        """One that a dead agent left."""
        parcel = cls(delivery, record.chunk, record.plain_bytes, Kept())
        parcel.wire_bytes += place.size
        parcel.keep(place)
        parcel.chunk = None
        return parcel

    @property
    def memory_bytes(self) -> int:
        """What it weighs in memory."""
        return _OBJECT_BYTES if self.chunk is None else _OBJECT_BYTES + self.wire_bytes

    @property
    def record(self) -> ChunkRecord:
        """The chunk, which must be in memory."""
        assert self.chunk is not None
        return ChunkRecord(*self.delivery.key, self.plain_bytes, self.chunk)

    def keep(self, place: Place) -> None:
        """Note that it is written there."""
        self.place = place
        self.kept.places.append(place)


class TailParcel:
    """A piece of output that is in no chunk yet: for the disk only."""

    __slots__ = ("kept", "record")

    def __init__(self, delivery: Delivery, stream: Stream, tail: Tail) -> None:
        self.kept = tail.kept
        self.record: Record = TailRecord(
            *delivery.key, delivery.lease, stream, tail.start, tail.offset, tail.data,
            marks.encode(tail.marks),
        )  # fmt: skip

    def keep(self, place: Place) -> None:
        """Note that it is written there."""
        self.kept.places.append(place)


class Batch(NamedTuple):
    """The content of one request."""

    parcels: list[Parcel]
    deliveries: list[Delivery]
    """Whose results go along."""

    def __len__(self) -> int:
        return len(self.parcels) + len(self.deliveries)

    @property
    def small(self) -> bool:
        """Whether it leaves alone."""
        return sum(parcel.wire_bytes for parcel in self.parcels) < LARGE_BYTES
