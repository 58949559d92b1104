"""What waits to be sent: chunks and results, bounded in bytes, oldest first.

A result leaves only with or after the last chunk of its attempt: with those of the same batch, or
when all are acknowledged. Chunks that are compressing count with their plain size, then with their
compressed one, and with little when they are on the disk only (`agent/spooler.py`). Nothing is
dropped when memory and disk are full: the owner is told to leave the pipes unread.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable

import msgspec

from agent.compressing import Cuts, Press
from agent.gauge import Gauge
from agent.parcels import LARGE_BYTES, Batch, Delivery, Parcel, TailParcel
from agent.ready import Ready
from agent.spool import Kept, SpoolError
from agent.spooler import Spooler
from agent.streams import Tail
from schema import marks
from schema.reports import LogChunk, Result
from schema.sessions import Held
from schema.tasks import Stream

log = logging.getLogger("agent")

_SPOOLED_OVER = 0.5  # of the limit: the rest is for what comes while that is written

ALONE_S = 1.0
"""A small batch that is out for longer is stuck, and holds up the others no more."""


class Outbox:
    """The queue between the tasks and the report loops."""

    def __init__(
        self,
        limit_bytes: int,
        full_changed: Callable[[bool], None],
        spooler: Spooler,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Call `full_changed` with True when it is full, with False when there is room again."""
        self.memory = Gauge(limit_bytes, full_changed)
        self._spooler = spooler
        spooler.moved = self._forget_content
        self._clock = clock
        self._ready = Ready()
        self._results: dict[Held, Delivery] = {}
        self._unsettled = 0  # chunks and results not acknowledged
        self._takeable = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._press = Press(self.memory, self._queue)
        self._small_left_s: dict[int, float] = {}  # by id of the batches that are out

    def close(self) -> None:
        """End the threads."""
        self._press.close()
        self._spooler.close()

    def tick(self) -> None:
        """Let the spool have what is due."""
        self._spooler.tick(self.memory.bytes - int(self.memory.limit_bytes * _SPOOLED_OVER))

    async def keep_all(self) -> bool:
        """Write all that is unsent to the disk; whether that worked."""
        await self._press.rest()
        return await self._spooler.keep_all()

    def restore(self, deliveries: Iterable[Delivery], parcels: Iterable[Parcel]) -> None:
        """Queue what a dead agent left. Called before anything is added: that goes first."""
        for parcel in parcels:
            parcel.resent = True
            if parcel.chunk is not None:
                parcel.chunk = msgspec.structs.replace(parcel.chunk, resent=True)
                self._spooler.enter(parcel)
            self._spooler.inherit(parcel.kept)
            self._count(1)
            self._push(parcel)
        for delivery in deliveries:
            self._spooler.inherit(delivery.kept)
            if delivery.result is not None:
                self._count(1)
                self._results[delivery.key] = delivery

    def add(self, delivery: Delivery, cuts: Cuts) -> None:
        """Compress what was cut together, and queue it."""
        delivery.waiting += len(cuts)
        self._count(len(cuts))
        self._press.put(delivery, cuts)

    def _queue(self, delivery: Delivery, cuts: Cuts, members: list[bytes]) -> None:
        left = len(cuts)
        for (stream, cut), member in zip(cuts, members, strict=True):
            left -= 1
            chunk = LogChunk(
                lease=delivery.lease,
                stream=stream,
                offset=cut.offset,
                content=member,
                marks=marks.encode(cut.marks),
            )
            parcel = Parcel(delivery, chunk, cut.size, cut.kept)
            parcel.leads = left > 0
            self._spooler.enter(parcel, cut.unkept_s)
            delivery.waiting -= 1
            self._push(parcel)

    def _push(self, parcel: Parcel) -> None:
        self._ready.add(parcel)
        self._reweigh(parcel)
        self._takeable.set()

    @property
    def keeps_tails(self) -> bool:
        """Whether a tail would be written at once: where not, it has to wait in its stream."""
        return self._spooler.ready

    def keep_tail(self, delivery: Delivery, stream: Stream, tail: Tail) -> None:
        """Write to the disk what is in no chunk yet."""
        self._spooler.enter_tail(TailParcel(delivery, stream, tail))

    def finish(self, delivery: Delivery, result: Result) -> None:
        """Queue the result, which waits for the chunks that were added before."""
        if delivery.result is None:
            self._count(1)
        delivery.result = result
        delivery.kept = Kept()
        self._results[delivery.key] = delivery
        self._spooler.enter(delivery)
        self._takeable.set()

    async def take(self, max_bytes: int, max_items: int) -> Batch:
        """Wait until something may leave, and take as much as fits: at least one item.

        `request_over` must follow.
        """
        while True:
            alone_s = self._alone_s()
            large = self._ready.bytes >= min(LARGE_BYTES, max_bytes)
            if (alone_s <= 0 or large) and (batch := self._pick(max_bytes, max_items)):
                if batch.small:
                    self._small_left_s[id(batch)] = self._clock()
                if await self._load(batch):
                    return batch
                self.request_over(batch)
                continue
            self._takeable.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(alone_s if alone_s > 0 else None):
                    await self._takeable.wait()

    async def _load(self, batch: Batch) -> bool:
        """Read what is on the disk only; False where nothing is left to be sent."""
        spooled = [parcel for parcel in batch.parcels if parcel.chunk is None]
        if not spooled:
            return True
        try:
            read = await self._spooler.read(spooled)
        except BaseException:
            self.put_back(batch)
            self.request_over(batch)
            raise
        for parcel, chunk in read.items():
            if isinstance(chunk, SpoolError):
                log.error(
                    "task %d attempt %d: %d bytes of output are lost, the spool is damaged: %s",
                    *parcel.delivery.key, parcel.plain_bytes, chunk,
                )  # fmt: skip
                batch.parcels.remove(parcel)
                self.settle_chunk(parcel)
            else:
                parcel.chunk = msgspec.structs.replace(chunk, resent=parcel.resent)
                self._reweigh(parcel)
        return len(batch) > 0

    def _alone_s(self) -> float:
        """Seconds for which a small batch that left must be alone."""
        return max(self._small_left_s.values(), default=-math.inf) + ALONE_S - self._clock()

    def request_over(self, batch: Batch) -> None:
        """Note that the request with this batch is over."""
        if self._small_left_s.pop(id(batch), None) is not None:
            self._takeable.set()

    def _pick(self, max_bytes: int, max_items: int) -> Batch:
        batch = Batch(self._ready.take(max_bytes, max_items), [])
        self._pick_results(
            batch, Counter(parcel.delivery.key for parcel in batch.parcels), max_items
        )
        return batch

    def take_results(self, max_items: int) -> Batch:
        """Take what results wait for no chunk, perhaps none: a line may break with large bodies.

        `request_over` must follow.
        """
        batch = Batch([], [])
        self._pick_results(batch, Counter(), max_items)
        return batch

    def _pick_results(self, batch: Batch, here: Counter[Held], max_items: int) -> None:
        for key, delivery in self._results.items():
            if len(batch) >= max_items:
                break
            if not delivery.waiting and delivery.flying.total() == here[key]:
                batch.deliveries.append(delivery)
        for delivery in batch.deliveries:
            del self._results[delivery.key]

    def put_back(self, batch: Batch) -> None:
        """Queue again, in front, what may or may not have arrived."""
        self._ready.put_back(batch.parcels)
        for parcel in batch.parcels:
            parcel.resent = True
            self._forget_content(parcel)
            if parcel.chunk is not None:
                parcel.chunk = msgspec.structs.replace(parcel.chunk, resent=True)
        for delivery in batch.deliveries:
            self._results[delivery.key] = delivery
        self._takeable.set()

    def settle_chunk(self, parcel: Parcel) -> None:
        """Forget a chunk that was acknowledged, or refused for good."""
        self._ready.landed(parcel)
        self.memory.add(-parcel.weight)
        self._spooler.leave(parcel)
        self._count(-1)
        self._takeable.set()  # a result may have waited for it

    def settle_result(self, delivery: Delivery) -> None:
        """Forget a result that was acknowledged, or refused for good."""
        delivery.result = None
        self._spooler.leave(delivery)
        self._count(-1)

    @property
    def empty(self) -> bool:
        """Tell whether everything is acknowledged."""
        return not self._unsettled

    async def wait_empty(self) -> None:
        """Wait until everything is acknowledged."""
        await self._empty.wait()

    def _count(self, change: int) -> None:
        self._unsettled += change
        if self._unsettled:
            self._empty.clear()
        else:
            self._empty.set()

    def _forget_content(self, parcel: Parcel) -> None:
        """Let memory go of what is on the disk, unless a request has it."""
        if parcel.place is not None and not parcel.flying:
            parcel.chunk = None
            self._reweigh(parcel)

    def _reweigh(self, parcel: Parcel) -> None:
        change = parcel.memory_bytes - parcel.weight
        parcel.weight += change
        self.memory.add(change)
