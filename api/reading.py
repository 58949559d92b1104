"""Reading logs: their bytes or lines, streamed in bounded memory."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from functools import partial
from typing import Literal

from msgspec import Struct

from api import bodies, members, merging, searching, seeking
from api.contents import StreamContents
from api.database import Database
from api.merging import Block, Blocks, Data
from api.searching import Pattern
from api.seeking import Place, Start
from api.store import logs as store
from api.store.logs import STREAMS, Column, Extents, StoredChunk
from schema import marks

Timestamps = Literal["none", "iso", "elapsed"]

_RUN_BYTES = 4 * 1024 * 1024  # inflated bytes fetched at a time
_RUN_CHUNKS = 256


class View(Struct, frozen=True, kw_only=True):
    """Which lines, and what stands before each."""

    line: int = 1
    """The first one, by its number."""
    lines: int | None = None
    """At most so many."""
    tail: int | None = None
    """Only so many at the end."""
    pattern: Pattern | None = None
    timestamps: Timestamps = "none"
    numbers: bool = False
    prefix: bytes = b""


class LogReader:
    """Reads the logs of one attempt."""

    def __init__(self, database: Database, task: int, contents: Sequence[StreamContents]) -> None:
        self._database = database
        self._task = task
        self._contents = contents

    async def raw(self, offset: int) -> AsyncGenerator[bytes, None]:
        """One stream's bytes from `offset` on, as they were written."""
        contents = self._contents[0]
        async with aclosing(self._chunks(contents, contents.chunk_at(offset))) as chunks:
            async for start, data, _ in chunks:
                yield data[max(0, offset - start) :]

    async def text(self, view: View) -> AsyncGenerator[bytes, None]:
        """All streams given, merged line by line in the order in which the lines were ended."""
        head = _head(view, self._contents[0].place.started_us)
        cut = False
        async with aclosing(await self.blocks(view)) as blocks:
            async for block in blocks:
                if cut:
                    yield b"\n"
                if block.data:
                    yield block.data if head is None else head(block)
                cut = block.cut

    async def blocks(self, view: View) -> Blocks:
        """The lines of a view."""
        first, blocks = await self.merged(view)
        if first < view.line:
            blocks = merging.without(blocks, view.line - first)
        if view.pattern is not None:
            blocks = searching.matching(blocks, view.pattern)
        if view.lines is not None:
            blocks = merging.first(blocks, view.lines)
        return blocks if view.tail is None else merging.last(blocks, view.tail)

    async def merged(self, view: View) -> tuple[int, Blocks]:
        """All from a line on that stands at, or a little before, the first one of a view."""
        place = await self._place(view)
        sources = [
            self._lines(each, start)
            for each, start in zip(self._contents, place.starts, strict=True)
        ]
        return place.line, merging.merge(sources, place.line if view.numbers else None)

    def _lines(self, contents: StreamContents, start: Start) -> Blocks:
        chunks = self._chunks(contents, start.chunk)
        lines = merging.split(contents.stream, chunks, open_end=not contents.place.ended)
        return merging.without(lines, start.lines) if start.lines else lines

    async def _place(self, view: View) -> Place:
        """Where to begin, so that no more is read than must be."""
        if view.line > 1:
            return await self._seek(view.line)
        if view.tail is None or view.pattern is not None:
            return Place(1, tuple(Start(0, 0) for _ in self._contents))
        chunks = [_tail_start(each, view.tail) for each in self._contents]
        if view.numbers and any(each.missing or each.state == "damaged" for each in self._contents):
            chunks = [0] * len(chunks)  # a line may end where bytes are missing: nobody counted it
        before = sum(
            sum(each.extents.lines[:chunk])
            for each, chunk in zip(self._contents, chunks, strict=True)
        )
        return Place(1 + before, tuple(Start(chunk, 0) for chunk in chunks))

    async def _seek(self, line: int) -> Place:
        times = [await self._times(each) for each in self._contents]
        return await seeking.seek(self._contents, times, line, self._load)

    async def _times(self, contents: StreamContents) -> Column:
        async with self._database.reading() as connection:
            return await store.list_times(
                connection, self._task, contents.place, STREAMS[contents.stream],
                len(contents.starts),
            )  # fmt: skip

    async def _load(self, contents: StreamContents, number: int) -> Data:
        async with aclosing(self._chunks(contents, number, 1)) as chunks:
            async for data in chunks:
                return data
        return contents.starts[number], b"", []  # retention came between

    async def members(self) -> AsyncGenerator[bytes, None]:
        """One stream's chunks as they are stored: gzip members, which joined are a gzip file."""
        contents = self._contents[0]
        if not contents.starts:
            yield members.deflate(b"")  # no bytes at all are no gzip file
        async with aclosing(self._stored(contents, 0)) as stored:
            async for _, chunk in stored:
                yield chunk.content

    async def _chunks(
        self, contents: StreamContents, first: int, most: int | None = None
    ) -> AsyncGenerator[Data, None]:
        """What the stored chunks bring, from number `first` on."""
        async with aclosing(self._stored(contents, first, most)) as stored:
            async for number, chunk in stored:
                told = contents.told_before(number)
                if told >= chunk.size:
                    continue
                if len(chunk.content) > bodies.INLINE_BYTES:
                    inflate = partial(members.inflate, chunk.content, chunk.size)
                    data = await bodies.in_thread(inflate)
                else:
                    data = members.inflate(chunk.content, chunk.size)
                times = marks.decode(chunk.marks) or [(0, chunk.received_us)]
                if told:
                    times = marks.behind(times, told)
                yield contents.starts[number], data[told:], times

    async def _stored(
        self, contents: StreamContents, first: int, most: int | None = None
    ) -> AsyncGenerator[tuple[int, StoredChunk], None]:
        """The chunks that were there when the log was described, a few at a time."""
        number = first
        end = len(contents.starts) if most is None else first + most
        run = 1  # a page of some lines needs no more
        while number < end:
            run = min(end - number, run, _run(contents.extents, number))
            async with self._database.reading() as connection:
                chunks = await store.read_chunks(
                    connection, self._task, contents.place, STREAMS[contents.stream],
                    contents.extents.positions[number], run,
                )  # fmt: skip
            if not chunks:
                return  # retention came between
            for chunk in chunks:
                if number == end:
                    return
                if chunk.position == contents.extents.positions[number]:  # else it came later
                    yield number, chunk
                    number += 1
            run *= 4


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
        if found > lines or size > merging.LAST_BYTES:
            return number
    return 0


def _head(view: View, started_us: int) -> Callable[[Block], bytes] | None:
    """Writes a block with something before each of its lines, which share their time."""
    if view.timestamps == "none" and not view.numbers and not view.prefix:
        return None
    stamp = {"none": _none, "iso": _iso}.get(view.timestamps, partial(_elapsed, started_us))

    def headed(block: Block) -> bytes:
        time = stamp(block.time_us)
        body, end = block.data[:-1], block.data[-1:]
        if not view.numbers:
            head = view.prefix + time
            text = body.replace(b"\n", b"\n" + head) + end
            return text if block.inside else head + text
        lines = body.split(b"\n")
        numbered = (
            b"%b%d:%b%b" % (view.prefix, number, time, line)
            for number, line in enumerate(lines[block.inside :], block.line + block.inside)
        )
        return b"\n".join([*lines[: block.inside], *numbered]) + end

    return headed


def _none(_: int) -> bytes:
    return b""


def _iso(time_us: int) -> bytes:
    moment = datetime.fromtimestamp(time_us / 1_000_000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z ").encode()


def _elapsed(started_us: int, time_us: int) -> bytes:
    return f"{(time_us - started_us) / 1_000_000:9.3f} ".encode()
