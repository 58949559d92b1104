"""Stored chunks, inflated once for all who look at them: a small cache, and shared statements."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable
from datetime import date
from itertools import takewhile

from msgspec import Struct

from api import bodies, members
from api.batching import Bounds, Coalescer
from api.database import Database
from api.store import live as store
from api.store.logs import ChunkKey, StoredChunk
from schema import marks
from schema.marks import Mark

_BATCH = Bounds(items=256, bytes=4 * 1024 * 1024)  # inflated
_WAITING = Bounds(items=100_000)
_KEPT_BYTES = 32 * 1024 * 1024
_MARK_BYTES = 120  # an object in a list


class ChunkPlace(Struct, frozen=True, gc=False):
    """One chunk."""

    day: date
    task: int
    attempt: int
    stream: int
    position: int
    size: int
    """Bytes, inflated."""

    @property
    def key(self) -> ChunkKey:
        """What is unique of it."""
        return (self.day, self.task, self.attempt, self.stream, self.position)


class Inflated(Struct, frozen=True, gc=False):
    """What a chunk holds."""

    data: bytes
    times: list[Mark]

    @property
    def weight(self) -> int:
        """Bytes that it takes, about."""
        return len(self.data) + _MARK_BYTES * len(self.times)


class Chunks:
    """Reads chunks. Who waits for the same one shares its reading and inflating."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: OrderedDict[ChunkKey, Inflated] = OrderedDict()
        self._weight = 0
        # One statement at a time: who asks while a chunk is read finds it when his turn comes.
        self._reads: Coalescer[ChunkPlace, Inflated | None] = Coalescer(
            self._read_many, batch=_BATCH, queue=_WAITING
        )

    async def run(self) -> None:
        """Read until cancelled."""
        await self._reads.run()

    async def get(self, place: ChunkPlace) -> Inflated | None:
        """One chunk; None where retention came between."""
        found = self._find(place.key)
        return found or await self._reads.submit(place, place.size)

    async def read_ahead(self, places: Iterable[ChunkPlace]) -> None:
        """Read chunks that many will ask for, as far as one statement goes."""
        some = list(takewhile(_fits(), places))
        if some:
            await asyncio.gather(*map(self.get, some))

    def _find(self, key: ChunkKey) -> Inflated | None:
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    async def _read_many(self, places: list[ChunkPlace]) -> list[Inflated | None]:
        found = {place.key: self._find(place.key) for place in places}
        missing = [key for key, known in found.items() if known is None]
        if missing:
            async with self._database.reading() as connection:
                stored = await store.read_many(connection, missing)
            if sum(len(chunk.content) for chunk in stored.values()) > bodies.INLINE_BYTES:
                inflated = await bodies.in_thread(lambda: _inflate_all(stored))
            else:
                inflated = _inflate_all(stored)
            for key, one in inflated.items():
                self._keep(key, one)
                found[key] = one
        return [found[place.key] for place in places]

    def _keep(self, key: ChunkKey, one: Inflated) -> None:
        self._kept[key] = one
        self._weight += one.weight
        while self._weight > _KEPT_BYTES:
            _, gone = self._kept.popitem(last=False)
            self._weight -= gone.weight


def _fits() -> Callable[[ChunkPlace], bool]:
    """Tells of one place after the other whether it still goes into a batch."""
    size = 0

    def fits(place: ChunkPlace) -> bool:
        nonlocal size
        size += place.size
        return size <= _BATCH.bytes

    return fits


def _inflate_all(stored: dict[ChunkKey, StoredChunk]) -> dict[ChunkKey, Inflated]:
    return {
        key: Inflated(
            members.inflate(chunk.content, chunk.size),
            marks.decode(chunk.marks) or [(0, chunk.received_us)],
        )
        for key, chunk in stored.items()
    }
