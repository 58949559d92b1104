"""Reading logs: their bytes or lines, streamed in bounded memory."""

from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Literal

from msgspec import Struct

from api import bodies
from api.contents import StreamContents
from api.database import Database
from api.store import logs as store
from api.store.logs import STREAMS, Extents, StoredChunk
from schema import marks

Timestamps = Literal["none", "iso", "elapsed"]

_RUN_BYTES = 4 * 1024 * 1024  # inflated bytes fetched at a time
_RUN_CHUNKS = 256
_LONG_LINE_BYTES = 1024 * 1024  # longer lines leave in pieces, so that memory stays bounded
_TAIL_BYTES = 8 * 1024 * 1024


class Block(Struct, frozen=True, gc=False):
    """Whole lines of one stream that were read at one time."""

    time_us: int
    data: bytes
    goes_on: bool
    """The last line is longer than a block: its rest comes in the next block of that stream."""


class LogReader:
    """Reads the logs of one attempt."""

    def __init__(self, database: Database, task: int, contents: Sequence[StreamContents]) -> None:
        self._database = database
        self._task = task
        self._contents = contents

    async def raw(self, offset: int) -> AsyncIterator[bytes]:
        """One stream's bytes from `offset` on, as they were written."""
        contents = self._contents[0]
        async for start, data, _ in self._chunks(contents, contents.chunk_at(offset)):
            yield data[max(0, offset - start) :]

    async def lines(self, timestamps: Timestamps, tail: int | None) -> AsyncIterator[bytes]:
        """All streams given, merged line by line in the order in which the lines were ended."""
        sources = [
            self._blocks(contents, 0 if tail is None else _tail_start(contents, tail))
            for contents in self._contents
        ]
        merged = _merge(sources)
        stamp = _stamp(timestamps, self._contents[0].place.started_us)
        async for data in _stamped(merged if tail is None else _last(merged, tail), stamp):
            yield data

    async def members(self) -> AsyncIterator[bytes]:
        """One stream's chunks as they are stored: gzip members, which joined are a gzip file."""
        contents = self._contents[0]
        if not contents.starts:
            yield bodies.deflate(b"")  # no bytes at all are no gzip file
        async for _, chunk in self._stored(contents, 0):
            yield chunk.content

    async def _chunks(
        self, contents: StreamContents, first: int
    ) -> AsyncIterator[tuple[int, bytes, list[marks.Mark]]]:
        """(first byte, bytes, marks) that the stored chunks bring, from number `first` on."""
        async for number, chunk in self._stored(contents, first):
            told = contents.told_before(number)
            if told >= chunk.size:
                continue
            if len(chunk.content) > bodies.INLINE_BYTES:
                data = await bodies.in_thread(partial(bodies.inflate, chunk.content, chunk.size))
            else:
                data = bodies.inflate(chunk.content, chunk.size)
            times = marks.decode(chunk.marks) or [(0, chunk.received_us)]
            if told:
                times = marks.behind(times, told)
            yield contents.starts[number], data[told:], times

    async def _stored(
        self, contents: StreamContents, first: int
    ) -> AsyncIterator[tuple[int, StoredChunk]]:
        """The chunks that were there when the log was described, a few at a time."""
        number = first
        while number < len(contents.starts):
            run = _run(contents.extents, number)
            async with self._database.reading() as connection:
                chunks = await store.read_chunks(
                    connection, self._task, contents.place, STREAMS[contents.stream],
                    contents.extents.positions[number], run,
                )  # fmt: skip
            if not chunks:
                return  # retention came between
            for chunk in chunks:
                if number == len(contents.starts):
                    return
                if chunk.position == contents.extents.positions[number]:  # else it came later
                    yield number, chunk
                    number += 1

    async def _blocks(self, contents: StreamContents, first: int) -> AsyncIterator[Block]:
        """Lines of one stream, each with the time at which its end was read."""
        rest = bytearray()
        time_us = 0
        end = contents.starts[first] if first < len(contents.starts) else 0
        async for start, data, times in self._chunks(contents, first):
            if start != end and rest:
                yield Block(time_us, bytes(rest), goes_on=False)
                rest.clear()
            end = start + len(data)
            for index, (offset, mark_us) in enumerate(times):
                time_us = mark_us
                stop = times[index + 1][0] if index + 1 < len(times) else len(data)
                # Only the new piece is searched: a progress bar has many marks and no newline.
                searched = len(rest)
                rest += data[offset:stop]
                cut = rest.rfind(b"\n", searched) + 1
                if cut:
                    yield Block(time_us, bytes(rest[:cut]), goes_on=False)
                    del rest[:cut]
                elif len(rest) >= _LONG_LINE_BYTES:
                    yield Block(time_us, bytes(rest), goes_on=True)
                    rest.clear()
        if rest:
            yield Block(time_us, bytes(rest), goes_on=False)


def _run(extents: Extents, first: int) -> int:
    """How many chunks to fetch at a time: bounded in bytes, at least one."""
    size = count = 0
    for each in extents.sizes[first : first + _RUN_CHUNKS]:
        size += each
        if count and size > _RUN_BYTES:
            break
        count += 1
    return count


def _tail_start(contents: StreamContents, lines: int) -> int:
    """Number of the chunk from which on there are more than `lines` lines, or 8 MiB."""
    extents = contents.extents
    found = size = 0
    for number in range(len(contents.starts) - 1, -1, -1):
        found += extents.lines[number]
        size += extents.sizes[number]
        if found > lines or size > _TAIL_BYTES:
            return number
    return 0


async def _merge(sources: Sequence[AsyncIterator[Block]]) -> AsyncIterator[Block]:
    """Blocks of all sources by time; nothing comes between the pieces of one long line."""
    heads = [await anext(source, None) for source in sources]
    current: int | None = None
    time_us = 0
    while True:
        if current is None:
            waiting = [(head.time_us, index) for index, head in enumerate(heads) if head]
            if not waiting:
                return
            current = min(waiting)[1]
        block = heads[current]
        if block is None:  # the stream ends with a long line that nothing ended
            current = None
            if any(heads):
                yield Block(time_us, b"\n", goes_on=False)
            continue
        time_us = block.time_us
        heads[current] = await anext(sources[current], None)
        more = any(heads)
        if not block.goes_on:
            current = None
            if more and not block.data.endswith(b"\n"):
                block = Block(block.time_us, block.data + b"\n", goes_on=False)
        yield block


async def _last(blocks: AsyncIterator[Block], lines: int) -> AsyncIterator[Block]:
    """The last lines, at most 8 MiB of them."""
    if lines == 0:
        return
    kept: deque[Block] = deque()
    newlines = size = 0
    async for block in blocks:
        kept.append(block)
        newlines += block.data.count(b"\n")
        size += len(block.data)
        while len(kept) > 1 and (
            newlines - kept[0].data.count(b"\n") > lines or size - len(kept[0].data) > _TAIL_BYTES
        ):
            gone = kept.popleft()
            newlines -= gone.data.count(b"\n")
            size -= len(gone.data)
    unended = bool(kept) and not kept[-1].data.endswith(b"\n")
    surplus = newlines + unended - lines
    while kept and surplus > 0:
        block = kept.popleft()
        parts = block.data.split(b"\n", surplus)
        if len(parts) > surplus and parts[-1]:
            kept.appendleft(Block(block.time_us, parts[-1], block.goes_on))
            break
        surplus -= block.data.count(b"\n")
    for block in kept:
        yield block


def _stamp(timestamps: Timestamps, started_us: int) -> Callable[[int], bytes] | None:
    if timestamps == "iso":
        return lambda time_us: (
            datetime.fromtimestamp(time_us / 1_000_000, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z ")
            .encode()
        )
    if timestamps == "elapsed":
        return lambda time_us: f"{(time_us - started_us) / 1_000_000:9.3f} ".encode()
    return None


async def _stamped(
    blocks: AsyncIterator[Block], stamp: Callable[[int], bytes] | None
) -> AsyncIterator[bytes]:
    """A time before each line; a block's lines share theirs."""
    inside = False
    async for block in blocks:
        if stamp is None:
            yield block.data
            continue
        head = stamp(block.time_us)
        body = block.data[:-1].replace(b"\n", b"\n" + head) + block.data[-1:]
        yield body if inside else head + body
        inside = block.goes_on
