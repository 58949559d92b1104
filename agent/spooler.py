"""Decides what goes to the disk: what has waited for a second, and what memory has no room for.

While the API takes everything at once, nothing is written. What is sent is released, and segments
in which nothing is needed any more are removed.
"""

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from agent.parcels import Delivery, Keepable, Parcel, TailParcel
from agent.spool import ChunkRecord, Kept, Place, Record, Spool, SpoolError
from schema.reports import LogChunk

log = logging.getLogger("agent")

WAIT_S = 1.0
"""What has waited for longer is on the disk: so much is lost at most when the agent is killed."""

_WRITE_BYTES = 8 * 1024 * 1024  # at a time
_AFTER_FAILURE_S = 5.0


class Spooler:
    """Between the outbox and the spool: all file operations are done by one thread."""

    def __init__(
        self,
        spool: Spool | None,
        limit_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Without a spool everything stays in memory."""
        self._spool = spool
        self._limit_bytes = limit_bytes
        self._clock = clock
        self._young: dict[Parcel | Delivery, float] = {}  # not written, in the order of arrival
        self._tails: list[TailParcel] = []
        self._needed: Counter[int] = Counter()  # records, by segment
        self._thread = ThreadPoolExecutor(1, "spool")
        self._writing: asyncio.Future[list[Place]] | None = None
        self._pause_until_s = 0.0
        self._failing = False
        self.moved: Callable[[Parcel], None] = lambda parcel: None
        """Hears of each chunk that is written now."""

    @property
    def full(self) -> bool:
        """Whether nothing more may be written."""
        return self._spool is None or self._spool.bytes >= self._limit_bytes

    def enter(self, item: Parcel | Delivery, since_s: float = math.inf) -> None:
        """Care for something that is in memory only: since now, or since then if that is before."""
        self._young[item] = min(self._clock(), since_s)

    @property
    def ready(self) -> bool:
        """Whether the next tick may write.

        A tail that comes before would wait in memory; one left out makes those behind it useless.
        """
        return self._writing is None and not self.full and self._clock() >= self._pause_until_s

    def enter_tail(self, tail: TailParcel) -> None:
        """Write what is in no chunk yet, soon."""
        self._tails.append(tail)

    def inherit(self, kept: Kept) -> None:
        """Care for what a dead agent had written."""
        self._needed.update(place.segment for place in kept.places)

    def leave(self, item: Parcel | Delivery) -> None:
        """Forget what was sent, and all that was written of it."""
        self._young.pop(item, None)
        item.kept.over = True
        self._release(item.kept.places)

    def _release(self, places: Iterable[Place]) -> None:
        for place in places:
            self._needed[place.segment] -= 1
        self._drop_unneeded()

    def _drop_unneeded(self) -> None:
        if self._spool is None or self._writing is not None:
            return  # what is being written may stand in a segment that looks unneeded
        for segment in [number for number, records in self._needed.items() if records <= 0]:
            del self._needed[segment]
            self._thread.submit(self._spool.drop, segment)

    def tick(self, surplus_bytes: int = 0) -> None:
        """Write what is due; with a surplus in memory also what came last and is not being sent."""
        if not self.ready:
            return
        if items := self._due(surplus_bytes):
            self._write(items)

    def _due(self, surplus_bytes: int) -> list[Keepable]:
        due: dict[Keepable, None] = {tail: None for tail in self._tails if not tail.kept.over}
        self._tails.clear()
        size = 0
        old_s = self._clock() - WAIT_S
        for item, since_s in self._young.items():
            if size > _WRITE_BYTES:
                break
            if since_s <= old_s:
                due[item] = None
                size += _weight(item)
        for item in reversed(self._young):  # what came first is sent next
            if size >= min(surplus_bytes, _WRITE_BYTES):
                break
            if isinstance(item, Parcel) and not item.flying and item not in due:
                due[item] = None
                size += _weight(item)
        return list(due)

    def _write(self, items: Sequence[Keepable]) -> None:
        assert self._spool is not None, "nothing is due without one"
        records = [item.record for item in items]
        self._writing = asyncio.get_running_loop().run_in_executor(
            self._thread, self._spool.write, records
        )
        self._writing.add_done_callback(lambda done: self._written(items, done))

    def _written(self, items: Sequence[Keepable], done: asyncio.Future[list[Place]]) -> None:
        self._writing = None
        if done.cancelled():
            return
        error = done.exception()
        if error is not None:
            self._pause_until_s = self._clock() + _AFTER_FAILURE_S
            if not self._failing:
                log.error("the spool cannot be written (%s): what is unsent is in memory", error)
            self._failing = True
            self._tails[:0] = [item for item in items if isinstance(item, TailParcel)]
            return
        self._failing = False
        for item, place in zip(items, done.result(), strict=True):
            self._needed[place.segment] += 1
            if item.kept.over:
                self._needed[place.segment] -= 1
                continue
            item.keep(place)
            if isinstance(item, Parcel | Delivery):
                self._young.pop(item, None)
            if isinstance(item, Parcel):
                self.moved(item)
        self._drop_unneeded()

    async def read(self, parcels: Iterable[Parcel]) -> dict[Parcel, LogChunk | SpoolError]:
        """Read chunks that are on the disk only."""
        places = {parcel: parcel.place for parcel in parcels if parcel.place is not None}
        if not places:
            return {}
        loop = asyncio.get_running_loop()
        chunks = await loop.run_in_executor(self._thread, self._read, list(places.values()))
        return dict(zip(places, chunks, strict=True))

    def _read(self, places: Iterable[Place]) -> list[LogChunk | SpoolError]:
        assert self._spool is not None
        return [_chunk(self._spool, place) for place in places]

    async def keep_all(self) -> bool:
        """Write all that is in memory only, before the agent ends; whether that worked."""
        while True:
            if self._writing is not None:
                await asyncio.wait([self._writing])
                await asyncio.sleep(0)  # for what is called when it is done
                if self._failing:
                    return False
                continue
            if not self._young:
                return True
            if self.full:
                return False
            size = 0
            items: list[Keepable] = []
            for item in self._young:
                items.append(item)
                size += _weight(item)
                if size > _WRITE_BYTES:
                    break
            self._write(items)

    def close(self) -> None:
        """End the thread when it is through."""
        spool, self._spool = self._spool, None
        if spool is not None:
            self._thread.submit(spool.close)
        self._thread.shutdown()


def _weight(item: Parcel | Delivery) -> int:
    return item.weight if isinstance(item, Parcel) else 0


def _chunk(spool: Spool, place: Place) -> LogChunk | SpoolError:
    try:
        record: Record = spool.read(place)
    except SpoolError as error:
        return error
    if not isinstance(record, ChunkRecord):
        return SpoolError("it is no chunk")
    return record.chunk
