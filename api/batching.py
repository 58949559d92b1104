"""The one coalescer: requests that wait for the same connection share its next statement.

It flushes as soon as a connection is free, never by a timer: an idle server answers at once, a
busy one in larger batches.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from msgspec import Struct

Item = TypeVar("Item")
Answer = TypeVar("Answer")

Flush = Callable[[list[Item]], Awaitable[list[Answer]]]


class QueueFullError(Exception):
    """More waits than there is room for: the sender shall come back later."""


class StoppedError(Exception):
    """The server stops before it came to this: whether to send it again is for the sender."""


class Bounds(Struct, frozen=True):
    """How much goes together, or may wait."""

    items: int
    bytes: int = 2**62


class Coalescer(Generic[Item, Answer]):
    """Hands batches of items to `flush`, which gives one answer per item or raises for all.

    At most `flushes` of them run at a time, each within `batch` (but with at least one item); what
    waits stays within `queue`.
    """

    def __init__(
        self, flush: Flush[Item, Answer], *, flushes: int = 1, batch: Bounds, queue: Bounds
    ) -> None:
        self._flush = flush
        self._flushes = flushes
        self._batch = batch
        self._bounds = queue
        self._queue: deque[tuple[Item, int, asyncio.Future[Answer]]] = deque()
        self._waiting_bytes = 0
        self._work = asyncio.Event()

    @property
    def depth(self) -> int:
        """Items that wait."""
        return len(self._queue)

    async def submit(self, item: Item, size: int = 0) -> Answer:
        """Wait for the answer to one item of `size` bytes; QueueFullError, StoppedError."""
        waiting = len(self._queue)
        if waiting and (
            waiting >= self._bounds.items or self._waiting_bytes + size > self._bounds.bytes
        ):
            raise QueueFullError
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._queue.append((item, size, future))
        self._waiting_bytes += size
        self._work.set()
        return await future

    async def run(self) -> None:
        """Flush until cancelled; what waits then is told so."""
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._flushes):
                    group.create_task(self._flush_for_ever())
        finally:
            for _, _, future in self._queue:
                if not future.done():
                    future.set_exception(StoppedError())
            self._queue.clear()

    async def _flush_for_ever(self) -> None:
        while True:
            await self._work.wait()
            batch = self._take()
            if batch:
                await self._flush_batch(batch)

    def _take(self) -> list[tuple[Item, asyncio.Future[Answer]]]:
        batch: list[tuple[Item, asyncio.Future[Answer]]] = []
        taken = 0
        while self._queue and (
            not batch
            or (len(batch) < self._batch.items and taken + self._queue[0][1] <= self._batch.bytes)
        ):
            item, size, future = self._queue.popleft()
            self._waiting_bytes -= size
            taken += size
            # An item whose sender is gone is written all the same: it may have been promised.
            batch.append((item, future))
        if not self._queue:
            self._work.clear()
        return batch

    async def _flush_batch(self, batch: list[tuple[Item, asyncio.Future[Answer]]]) -> None:
        try:
            answers = await self._flush([item for item, _ in batch])
        except asyncio.CancelledError:
            for _, future in batch:
                future.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - whatever it was, the senders must learn of it
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
        else:
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)
