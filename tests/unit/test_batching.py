"""The coalescer: who waits together is written together, and everybody gets his answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import chain

import pytest

from api.batching import Bounds, Coalescer, QueueFullError, StoppedError


class _Writer:
    """Records batches; while the gate is shut, flushes wait in it."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.inside = 0
        self.most_inside = 0
        self.entered = asyncio.Semaphore(0)

    async def flush(self, items: list[int]) -> list[int]:
        self.batches.append(items)
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        self.entered.release()
        await self.gate.wait()
        self.inside -= 1
        if -1 in items:
            raise ConnectionError("the database went away")
        return [item * 10 for item in items]


@asynccontextmanager
async def _running(
    writer: _Writer,
    flushes: int = 1,
    batch_bytes: int = 100,
    queue_bytes: int = 1000,
    batch_items: int = 100,
    queue_items: int = 100,
) -> AsyncIterator[Coalescer[int, int]]:
    coalescer = Coalescer(
        writer.flush,
        flushes=flushes,
        batch=Bounds(batch_items, batch_bytes),
        queue=Bounds(queue_items, queue_bytes),
    )
    async with asyncio.TaskGroup() as group:
        loop = group.create_task(coalescer.run())
        yield coalescer
        loop.cancel()


async def test_an_idle_writer_writes_at_once() -> None:
    """No timer: one item alone does not wait for company."""
    writer = _Writer()
    async with _running(writer) as coalescer:
        assert await coalescer.submit(7, 1) == 70
    assert writer.batches == [[7]]


async def test_items_that_wait_share_the_next_flush() -> None:
    """A busy server writes in larger batches, in the order of arrival, one answer each."""
    writer = _Writer()
    writer.gate.clear()
    async with _running(writer) as coalescer, asyncio.TaskGroup() as group:
        answers = [group.create_task(coalescer.submit(1, 1))]
        await writer.entered.acquire()
        answers += [group.create_task(coalescer.submit(item, 1)) for item in (2, 3, 4)]
        while coalescer.depth < 3:
            await asyncio.sleep(0)
        writer.gate.set()
        assert [await answer for answer in answers] == [10, 20, 30, 40]
    assert writer.batches == [[1], [2, 3, 4]]


async def test_a_batch_ends_at_its_bytes_and_takes_at_least_one() -> None:
    """One flush must stay bounded; an item larger than a batch must pass all the same."""
    writer = _Writer()
    writer.gate.clear()
    async with _running(writer, batch_bytes=10) as coalescer, asyncio.TaskGroup() as group:
        group.create_task(coalescer.submit(0, 1))
        await writer.entered.acquire()
        for item, size in ((1, 6), (2, 4), (3, 5), (4, 50), (5, 1)):
            group.create_task(coalescer.submit(item, size))
        while coalescer.depth < 5:
            await asyncio.sleep(0)
        writer.gate.set()
    assert writer.batches == [[0], [1, 2], [3], [4], [5]]


async def test_a_batch_and_the_queue_are_bounded_in_items_too() -> None:
    """Results weigh next to nothing, and a statement of a hundred thousand is none."""
    writer = _Writer()
    writer.gate.clear()
    async with (
        _running(writer, batch_items=2, queue_items=3) as coalescer,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(coalescer.submit(0))
        await writer.entered.acquire()
        for item in (1, 2, 3):
            group.create_task(coalescer.submit(item))
        while coalescer.depth < 3:
            await asyncio.sleep(0)
        with pytest.raises(QueueFullError):
            await coalescer.submit(4)
        writer.gate.set()
    assert writer.batches == [[0], [1, 2], [3]]


async def test_as_many_flushes_run_as_there_are_lanes() -> None:
    """Two COPYs in flight keep the database busy; more would only hold connections."""
    writer = _Writer()
    writer.gate.clear()
    async with (
        _running(writer, flushes=2, batch_bytes=1) as coalescer,
        asyncio.TaskGroup() as group,
    ):
        for item in range(5):
            group.create_task(coalescer.submit(item, 1))
        await writer.entered.acquire()
        await writer.entered.acquire()
        assert writer.inside == 2
        writer.gate.set()
    assert writer.most_inside == 2
    assert sorted(chain.from_iterable(writer.batches)) == [0, 1, 2, 3, 4]


async def test_a_failed_flush_is_told_to_all_of_it_and_to_nobody_else() -> None:
    """A lost connection must not leave senders waiting, nor stop the writer."""
    writer = _Writer()
    writer.gate.clear()
    async with _running(writer) as coalescer, asyncio.TaskGroup() as group:
        first = group.create_task(coalescer.submit(1, 1))
        await writer.entered.acquire()
        failing = asyncio.gather(
            coalescer.submit(-1, 1), coalescer.submit(2, 1), return_exceptions=True
        )
        while coalescer.depth < 2:
            await asyncio.sleep(0)
        writer.gate.set()
        assert await first == 10
        assert [type(answer) for answer in await failing] == [ConnectionError, ConnectionError]
        assert await coalescer.submit(3, 1) == 30


async def test_too_much_waiting_is_refused() -> None:
    """Memory is bounded: the sender is told to come back, and what waits is written."""
    writer = _Writer()
    writer.gate.clear()
    async with _running(writer, queue_bytes=10) as coalescer, asyncio.TaskGroup() as group:
        group.create_task(coalescer.submit(1, 5))
        await writer.entered.acquire()
        waiting = group.create_task(coalescer.submit(2, 8))
        while coalescer.depth < 1:
            await asyncio.sleep(0)
        with pytest.raises(QueueFullError):
            await coalescer.submit(3, 3)
        writer.gate.set()
        assert await waiting == 20
        assert await coalescer.submit(4, 3) == 40


async def test_an_item_larger_than_the_queue_passes_when_nothing_waits() -> None:
    """Refused for ever it would block its agent for ever."""
    writer = _Writer()
    async with _running(writer, queue_bytes=10) as coalescer:
        assert await coalescer.submit(1, 50) == 10


async def test_what_a_gone_sender_handed_over_is_written() -> None:
    """Its reply may be lost; what it sent must not depend on that."""
    writer = _Writer()
    writer.gate.clear()
    async with _running(writer) as coalescer, asyncio.TaskGroup() as group:
        group.create_task(coalescer.submit(1, 1))
        await writer.entered.acquire()
        gone = asyncio.ensure_future(coalescer.submit(2, 1))
        while coalescer.depth < 1:
            await asyncio.sleep(0)
        gone.cancel()
        writer.gate.set()
        assert await coalescer.submit(3, 1) == 30
    assert list(chain.from_iterable(writer.batches)) == [1, 2, 3]


async def test_who_waits_when_it_stops_is_told() -> None:
    """A server that goes away must not leave its last senders without an answer."""
    writer = _Writer()
    writer.gate.clear()
    async with asyncio.TaskGroup() as group, _running(writer) as coalescer:
        inside = group.create_task(_outcome(coalescer, 1))
        await writer.entered.acquire()
        waiting = group.create_task(_outcome(coalescer, 2))
        while coalescer.depth < 1:
            await asyncio.sleep(0)
    assert waiting.result() is StoppedError
    assert inside.result() is asyncio.CancelledError


async def _outcome(coalescer: Coalescer[int, int], item: int) -> type[BaseException] | int:
    try:
        return await coalescer.submit(item, 1)
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - it is the outcome
        return type(error)
