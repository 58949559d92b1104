"""What goes to the disk and when; what is sent is what was written."""

import asyncio
import gzip
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent.outbox import Outbox
from agent.parcels import Batch, Delivery
from agent.spool import Kept, Spool
from agent.spooler import WAIT_S, Spooler
from agent.streams import Cut, MarkClock, StreamBuffer, Tail
from schema.reports import Result


class _Desk:
    """An outbox with a spool and a clock that the test turns."""

    def __init__(self, folder: Path, limit_bytes: int, spool_bytes: int) -> None:
        self.now_s = 0.0
        self.folder = folder
        self.spool = Spool(folder, "http://api")
        self.spooler = Spooler(self.spool, spool_bytes, lambda: self.now_s)
        self.full: list[bool] = []
        self.outbox = Outbox(limit_bytes, self.full.append, self.spooler, lambda: self.now_s)
        self.delivery = Delivery((1, 1), "1.1")
        self._at = 0

    def write(self, data: bytes) -> None:
        """Cut a chunk with these bytes."""
        cut = Cut(self._at, len(data), [data], [(0, 1)], Kept())
        self._at += len(data)
        self.outbox.add(self.delivery, [("stdout", cut)])

    async def turn(self, seconds: float = WAIT_S) -> None:
        """Let time pass, and await what is written because of that."""
        self.now_s += seconds
        self.outbox.tick()
        while self.spooler._writing is not None:
            await asyncio.wait([self.spooler._writing])
            await asyncio.sleep(0)

    async def send(self, items: int = 10) -> tuple[Batch, bytes]:
        """Take a batch and read it."""
        self.now_s += 10  # whatever left before is no reason to wait
        batch = await self.outbox.take(1_000_000, items)
        contents = [parcel.record.chunk.content for parcel in batch.parcels]
        return batch, b"".join(map(gzip.decompress, contents))

    def acknowledge(self, batch: Batch) -> None:
        """Forget what was sent."""
        for parcel in batch.parcels:
            self.outbox.settle_chunk(parcel)
        for delivery in batch.deliveries:
            self.outbox.settle_result(delivery)
        self.outbox.request_over(batch)

    async def files(self) -> int:
        """Count the segments, when the thread is through."""
        await asyncio.get_running_loop().run_in_executor(self.spooler._thread, lambda: None)
        return len(list(self.folder.glob("*")))


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Callable[..., _Desk]]:
    """Make desks; their threads end with the test."""
    desks: list[_Desk] = []

    def make(limit_bytes: int = 1_000_000, spool_bytes: int = 1_000_000) -> _Desk:
        desks.append(_Desk(tmp_path / "spool", limit_bytes, spool_bytes))
        return desks[-1]

    yield make
    for each in desks:
        each.outbox.close()


@asynccontextmanager
async def _nothing_logged(caplog: pytest.LogCaptureFixture) -> AsyncIterator[None]:
    caplog.clear()
    yield
    assert caplog.records == []


async def test_nothing_is_written_while_the_api_takes_all(desk: Callable[..., _Desk]) -> None:
    """The disk is for outages."""
    one = desk()
    one.write(b"hello\n")
    one.outbox.finish(one.delivery, Result(lease="1.1", reason="exit", exit_code=0))
    await one.turn(WAIT_S / 2)
    batch, _ = await one.send()
    one.acknowledge(batch)
    await one.turn()
    assert await one.files() == 0
    assert one.outbox.empty


async def test_what_waits_goes_to_the_disk_and_is_sent_as_it_was(
    desk: Callable[..., _Desk],
) -> None:
    """Memory has little of it then, and the files go when it is acknowledged."""
    one = desk()
    one.write(b"a" * 1000)
    one.write(b"b" * 1000)
    one.outbox.finish(one.delivery, Result(lease="1.1", reason="exit", exit_code=0))
    await one.turn()
    assert await one.files() == 1
    batch, data = await one.send()
    assert data == b"a" * 1000 + b"b" * 1000
    assert batch.deliveries == [one.delivery]
    one.outbox.put_back(batch)
    one.outbox.request_over(batch)
    assert all(parcel.chunk is None for parcel in batch.parcels)
    again, data = await one.send()
    assert data == b"a" * 1000 + b"b" * 1000
    assert all(parcel.record.chunk.resent for parcel in again.parcels)
    one.acknowledge(again)
    assert await one.files() == 0
    assert one.outbox.memory.bytes == 0


async def test_what_waited_in_its_stream_does_not_wait_again(desk: Callable[..., _Desk]) -> None:
    """Else what a killed agent loses is the last two seconds of output."""
    one = desk()
    buffer = StreamBuffer(MarkClock(), 100)
    buffer.append(b"kept", 1, 0.0)
    assert buffer.tail_older(1.0)
    buffer.append(b"not kept", 2, 1.1)
    one.now_s = 2.0
    cut = buffer.flush()
    assert cut is not None
    one.outbox.add(one.delivery, [("stdout", cut)])
    await one.turn(0.05)
    assert await one.files() == 0
    await one.turn(0.06)
    assert await one.files() == 1
    again = buffer.append(b"x" * 100, 3, 2.1)
    assert [cut.unkept_s for cut in again] == [2.1]


async def test_what_is_being_sent_stays_in_memory(desk: Callable[..., _Desk]) -> None:
    """It is on the disk too after a second: its request may never be answered."""
    one = desk()
    one.write(b"slow\n")
    batch, _ = await one.send()
    await one.turn()
    assert await one.files() == 1
    assert batch.parcels[0].chunk is not None
    one.acknowledge(batch)
    assert await one.files() == 0


async def test_what_memory_has_no_room_for_goes_to_the_disk_from_behind(
    desk: Callable[..., _Desk],
) -> None:
    """What came first is sent next, from memory; nobody waits."""
    one = desk(limit_bytes=20_000)
    for _ in range(12):
        one.write(os.urandom(2000))
        await one.turn(0)
    assert one.full == []
    batch, _ = await one.send(100)
    places = [parcel.place is not None for parcel in batch.parcels]
    assert places == sorted(places)
    assert True in places
    assert False in places
    one.acknowledge(batch)
    assert await one.files() == 0


async def test_a_full_spool_fills_the_memory(desk: Callable[..., _Desk]) -> None:
    """Then the tasks wait."""
    one = desk(limit_bytes=3_000, spool_bytes=1)
    one.write(b"x")
    await one.turn()  # the first write is let through: it is the one that fills it
    for _ in range(12):
        one.write(b"x")
        await one.turn()
    assert one.full == [True]
    batch, data = await one.send(100)
    assert data == b"x" * 13
    one.acknowledge(batch)
    assert one.full == [True, False]


async def test_tails_go_with_their_chunk(desk: Callable[..., _Desk]) -> None:
    """What is in no chunk yet is written as it is, and is not needed when the chunk is sent."""
    one = desk()
    kept = Kept()
    one.outbox.keep_tail(one.delivery, "stdout", Tail(0, 0, b"ab", [(0, 1)], kept))
    await one.turn(0)
    one.outbox.keep_tail(one.delivery, "stdout", Tail(0, 2, b"c", [(2, 2)], kept))
    await one.turn(0)
    assert len(kept.places) == 2
    one.outbox.add(one.delivery, [("stdout", Cut(0, 3, [b"abc"], [(0, 1), (2, 2)], kept))])
    batch, _ = await one.send()
    # This one is written when the chunk has been sent.
    one.outbox.keep_tail(one.delivery, "stdout", Tail(0, 3, b"d", [(3, 3)], kept))
    one.outbox.tick()
    one.acknowledge(batch)
    await one.turn(0)
    assert await one.files() == 0


async def test_tails_stay_in_their_streams_while_they_cannot_be_written(
    desk: Callable[..., _Desk],
) -> None:
    """A disk that hangs, is full or broken must not fill the memory, where nobody counts them."""
    one = desk(spool_bytes=100)
    kept = Kept()
    assert one.outbox.keeps_tails
    one.folder.write_text("a file where the folder should be")
    one.outbox.keep_tail(one.delivery, "stdout", Tail(0, 0, b"a" * 100, [(0, 1)], kept))
    one.outbox.tick()
    assert not one.outbox.keeps_tails  # it is being written
    await one.turn(0)
    assert not one.outbox.keeps_tails  # that failed
    one.folder.unlink()
    one.now_s += 100
    assert one.outbox.keeps_tails
    await one.turn(0)
    assert len(kept.places) == 1  # what failed was tried again
    assert not one.outbox.keeps_tails  # it is full


async def test_a_disk_that_cannot_be_written_is_told_once(
    desk: Callable[..., _Desk], caplog: pytest.LogCaptureFixture
) -> None:
    """All goes on from memory, and to the disk again when that works."""
    one = desk()
    one.folder.parent.joinpath("spool").write_text("a file where the folder should be")
    one.write(b"1")
    with caplog.at_level(logging.INFO, "agent"):
        await one.turn()
        assert "the spool cannot be written" in caplog.text
        async with _nothing_logged(caplog):
            await one.turn(100)
        batch, data = await one.send()
        assert data == b"1"
        one.outbox.put_back(batch)
        one.outbox.request_over(batch)
        one.folder.unlink()
        async with _nothing_logged(caplog):
            await one.turn(100)
    assert await one.files() == 1


async def test_all_is_kept_before_the_end(desk: Callable[..., _Desk]) -> None:
    """Whoever stops the agent twice loses nothing."""
    one = desk()
    one.write(b"young\n")
    batch, _ = await one.send()
    one.write(b"younger\n")
    assert await one.outbox.keep_all()
    found = Spool(one.folder, "http://api").recover()
    assert len(found) == 2
    one.acknowledge(batch)


async def test_what_is_being_compressed_is_kept_before_the_end(
    desk: Callable[..., _Desk],
) -> None:
    """Its result may be: the log would miss these bytes for ever."""
    one = desk()
    one.write(os.urandom(100_000))
    assert await one.outbox.keep_all()
    assert len(Spool(one.folder, "http://api").recover()) == 1


async def test_a_disk_that_could_not_be_written_is_tried_before_the_end(
    desk: Callable[..., _Desk],
) -> None:
    """It may have room again by now."""
    one = desk()
    one.folder.write_text("a file where the folder should be")
    one.write(b"1")
    await one.turn()
    assert not await one.outbox.keep_all()
    one.folder.unlink()
    assert await one.outbox.keep_all()
    assert len(Spool(one.folder, "http://api").recover()) == 1
