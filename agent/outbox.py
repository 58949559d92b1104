"""What waits to be sent: chunks and results, bounded in bytes, oldest first.

A result leaves only with or after the last chunk of its attempt: with those of the same batch, or
when all are acknowledged. Chunks that are compressing count with their plain size, then with their
compressed one. Nothing is dropped when it is full: the owner is told to leave the pipes unread.
"""

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import msgspec

from agent.streams import Cut
from schema import marks
from schema.reports import LogChunk, Result
from schema.sessions import Held
from schema.tasks import Stream

_INLINE_BYTES = 16_384  # compressing that takes about as long as handing it to a thread
_COMPRESSING_THREADS = 2
_OVERHEAD_BYTES = 300  # of a chunk in memory and on the wire, beside its content
_LOW_WATER = 0.5

LARGE_BYTES = 262_144
"""A batch of so much leaves beside another one. Small ones leave one at a time, so that what piles
up meanwhile goes together: each costs the API a request and a transaction."""

ALONE_S = 1.0
"""A small batch that is out for longer is stuck, and holds up the others no more."""


class Delivery:
    """What one attempt has still to send."""

    __slots__ = ("flying", "key", "lease", "result", "waiting")

    def __init__(self, key: Held, lease: str) -> None:
        self.key = key
        self.lease = lease
        self.waiting = 0  # chunks that compress or stand in the queue
        self.flying = 0  # chunks in a request that is under way
        self.result: Result | None = None


class Parcel:
    """One chunk on its way."""

    __slots__ = ("chunk", "delivery", "plain_bytes")

    def __init__(self, delivery: Delivery, chunk: LogChunk, plain_bytes: int) -> None:
        self.delivery = delivery
        self.chunk = chunk
        self.plain_bytes = plain_bytes

    @property
    def wire_bytes(self) -> int:
        """What it weighs in memory and in a request."""
        return len(self.chunk.content) + len(self.chunk.marks) + _OVERHEAD_BYTES


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


class Outbox:
    """The queue between the tasks and the report loop."""

    def __init__(
        self,
        limit_bytes: int,
        full_changed: Callable[[bool], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Call `full_changed` with True when it is full, with False when there is room again."""
        self._limit_bytes = limit_bytes
        self._full_changed = full_changed
        self._clock = clock
        self._ready: deque[Parcel] = deque()
        self._results: dict[Held, Delivery] = {}
        self._unsettled = 0  # chunks and results not acknowledged
        self._takeable = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._pool = ThreadPoolExecutor(_COMPRESSING_THREADS, "gzip")
        self._ready_bytes = 0
        self._small_left_s: dict[int, float] = {}  # by id of the batches that are out
        self.bytes = 0
        self.full = False

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)

    def add(self, delivery: Delivery, stream: Stream, cut: Cut) -> None:
        """Compress a chunk and queue it."""
        delivery.waiting += 1
        self._count(1)
        if cut.size < _INLINE_BYTES:
            self._queue(delivery, stream, cut, cut.gzip_member())
            return
        self._weigh(cut.size)
        future = asyncio.get_running_loop().run_in_executor(self._pool, cut.gzip_member)

        def compressed(done: asyncio.Future[bytes]) -> None:
            if not done.cancelled():
                self._weigh(-cut.size)
                self._queue(delivery, stream, cut, done.result())

        future.add_done_callback(compressed)

    def _queue(self, delivery: Delivery, stream: Stream, cut: Cut, content: bytes) -> None:
        chunk = LogChunk(
            lease=delivery.lease,
            stream=stream,
            offset=cut.offset,
            content=content,
            marks=marks.encode(cut.marks),
        )
        parcel = Parcel(delivery, chunk, cut.size)
        self._ready.append(parcel)
        self._ready_bytes += parcel.wire_bytes
        self._weigh(parcel.wire_bytes)
        self._takeable.set()

    def finish(self, delivery: Delivery, result: Result) -> None:
        """Queue the result, which waits for the chunks that were added before."""
        if delivery.result is None:
            self._count(1)
        delivery.result = result
        self._results[delivery.key] = delivery
        self._takeable.set()

    async def take(self, max_bytes: int, max_items: int) -> Batch:
        """Wait until something may leave, and take as much as fits: at least one item.

        `returned` must follow.
        """
        while True:
            alone_s = self._alone_s()
            large = self._ready_bytes >= min(LARGE_BYTES, max_bytes)
            if (alone_s <= 0 or large) and (batch := self._pick(max_bytes, max_items)):
                break
            self._takeable.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(alone_s if alone_s > 0 else None):
                    await self._takeable.wait()
        if batch.small:
            self._small_left_s[id(batch)] = self._clock()
        return batch

    def _alone_s(self) -> float:
        """Seconds for which a small batch that left must be alone."""
        return max(self._small_left_s.values(), default=-math.inf) + ALONE_S - self._clock()

    def returned(self, batch: Batch) -> None:
        """Note that the request with this batch is over."""
        if self._small_left_s.pop(id(batch), None) is not None:
            self._takeable.set()

    def _pick(self, max_bytes: int, max_items: int) -> Batch:
        batch = Batch([], [])
        here: dict[Held, int] = {}
        size = 0
        while self._ready and len(batch) < max_items:
            size += self._ready[0].wire_bytes
            if batch.parcels and size > max_bytes:
                break
            parcel = self._ready.popleft()
            self._ready_bytes -= parcel.wire_bytes
            delivery = parcel.delivery
            delivery.waiting -= 1
            delivery.flying += 1
            here[delivery.key] = here.get(delivery.key, 0) + 1
            batch.parcels.append(parcel)
        for key, delivery in self._results.items():
            if len(batch) >= max_items:
                break
            if not delivery.waiting and delivery.flying == here.get(key, 0):
                batch.deliveries.append(delivery)
        for delivery in batch.deliveries:
            del self._results[delivery.key]
        return batch

    def put_back(self, batch: Batch) -> None:
        """Queue again, in front, what may or may not have arrived."""
        for parcel in reversed(batch.parcels):
            parcel.chunk = msgspec.structs.replace(parcel.chunk, resent=True)
            parcel.delivery.flying -= 1
            parcel.delivery.waiting += 1
            self._ready.appendleft(parcel)
            self._ready_bytes += parcel.wire_bytes
        for delivery in batch.deliveries:
            self._results[delivery.key] = delivery
        self._takeable.set()

    def settle_chunk(self, parcel: Parcel) -> None:
        """Forget a chunk that was acknowledged, or refused for good."""
        parcel.delivery.flying -= 1
        self._weigh(-parcel.wire_bytes)
        self._count(-1)
        self._takeable.set()  # a result may have waited for it

    def settle_result(self, delivery: Delivery) -> None:
        """Forget a result that was acknowledged, or refused for good."""
        delivery.result = None
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

    def _weigh(self, change: int) -> None:
        self.bytes += change
        if not self.full and self.bytes >= self._limit_bytes:
            self.full = True
            self._full_changed(True)
        elif self.full and self.bytes <= self._limit_bytes * _LOW_WATER:
            self.full = False
            self._full_changed(False)
