"""Reading logs: what a log says of itself, and its bytes, streamed in bounded memory."""

from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Literal

from msgspec import Struct

from api import bodies
from api.database import Database
from api.store import logs as store
from api.store.logs import STREAMS, AttemptPlace, Extent, StoredChunk
from schema import marks
from schema.tasks import LogState, Stream, StreamLog

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


class StreamContents(Struct, frozen=True):
    """What is stored of one stream of one attempt, and how much there should be."""

    place: AttemptPlace
    stream: Stream
    extents: tuple[Extent, ...]
    starts: tuple[int, ...]
    """First byte of each extent in the stream."""
    state: LogState
    missing: tuple[tuple[int, int], ...]

    def summary(self) -> StreamLog:
        """For people."""
        return StreamLog(
            state=self.state,
            bytes=sum(extent.size for extent in self.extents),
            lines=sum(extent.lines for extent in self.extents),
            missing=self.missing,
        )


def describe(
    place: AttemptPlace, stream: Stream, extents: Sequence[Extent], *, expired: bool
) -> StreamContents:
    """Judge a log by what is stored and what its result declared.

    Of an attempt that has not ended only what joins without a gap is shown: a chunk that overtook
    another one on its way shows when that has come.
    """
    declared = place.stdout_bytes if stream == "stdout" else place.stderr_bytes
    starts: list[int] = []
    missing: list[tuple[int, int]] = []
    end = 0
    for number, extent in enumerate(extents):
        start = end if place.pulled else extent.position
        gap = extent.position > number if place.pulled else start > end
        if gap and not place.ended:
            break
        if start > end:
            missing.append((end, start))
        starts.append(start)
        end = start + extent.size
    if declared is not None and end < declared:
        missing.append((end, declared))
    state: LogState
    if expired:
        state = "expired"
    elif not place.ended:
        state = "open"
    elif missing:
        state = "missing"
    else:
        state = "undeclared" if declared is None else "complete"
    return StreamContents(
        place, stream, tuple(extents[: len(starts)]), tuple(starts), state,
        () if expired else tuple(missing),
    )  # fmt: skip


class LogReader:
    """Reads the logs of one attempt."""

    def __init__(self, database: Database, task: int, contents: Sequence[StreamContents]) -> None:
        self._database = database
        self._task = task
        self._contents = contents

    async def raw(self, offset: int) -> AsyncIterator[bytes]:
        """One stream's bytes from `offset` on, as they were written."""
        contents = self._contents[0]
        first = sum(
            start + extent.size <= offset
            for start, extent in zip(contents.starts, contents.extents, strict=True)
        )
        async for start, data, _ in self._chunks(contents, first):
            yield data[max(0, offset - start) :]

    async def lines(self, timestamps: Timestamps, tail: int | None) -> AsyncIterator[bytes]:
        """All streams given, merged line by line in the order in which the lines were ended."""
        sources = [
            self._blocks(contents, 0 if tail is None else _tail_start(contents.extents, tail))
            for contents in self._contents
        ]
        merged = _merge(sources)
        stamp = _stamp(timestamps, self._contents[0].place.started_us)
        async for data in _stamped(merged if tail is None else _last(merged, tail), stamp):
            yield data

    async def members(self) -> AsyncIterator[bytes]:
        """One stream's chunks as they are stored: gzip members, which joined are a gzip file."""
        contents = self._contents[0]
        if not contents.extents:
            yield bodies.deflate(b"")  # no bytes at all are no gzip file
        async for _, chunk in self._stored(contents, 0):
            yield chunk.content

    async def _chunks(
        self, contents: StreamContents, first: int
    ) -> AsyncIterator[tuple[int, bytes, list[marks.Mark]]]:
        """(first byte, bytes, marks) of the stored chunks from number `first` on."""
        async for number, chunk in self._stored(contents, first):
            if len(chunk.content) > bodies.INLINE_BYTES:
                data = await bodies.in_thread(partial(bodies.inflate, chunk.content, chunk.size))
            else:
                data = bodies.inflate(chunk.content, chunk.size)
            times = marks.decode(chunk.marks) or [(0, chunk.received_us)]
            yield contents.starts[number], data, times

    async def _stored(
        self, contents: StreamContents, first: int
    ) -> AsyncIterator[tuple[int, StoredChunk]]:
        """The chunks that were there when the log was described, a few at a time."""
        number = first
        while number < len(contents.extents):
            run = _run(contents.extents, number)
            async with self._database.reading() as connection:
                chunks = await store.read_chunks(
                    connection, self._task, contents.place, STREAMS[contents.stream],
                    contents.extents[number].position, run,
                )  # fmt: skip
            if not chunks:
                return  # retention came between
            for chunk in chunks:
                if chunk.position == contents.extents[number].position:  # else it came later
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


def _run(extents: Sequence[Extent], first: int) -> int:
    """How many chunks to fetch at a time: bounded in bytes, at least one."""
    size = count = 0
    for extent in extents[first : first + _RUN_CHUNKS]:
        size += extent.size
        if count and size > _RUN_BYTES:
            break
        count += 1
    return count


def _tail_start(extents: Sequence[Extent], lines: int) -> int:
    """Number of the chunk from which on there are more than `lines` lines, or 8 MiB."""
    found = size = 0
    for number in range(len(extents) - 1, -1, -1):
        found += extents[number].lines
        size += extents[number].size
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
