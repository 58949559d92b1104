"""Lines of both streams of an attempt in the order in which they were ended: bounded, no I/O.

A line stands where its end was read. One that is longer than a block leaves in pieces: it stands
where its first piece was read, and nothing comes between.
"""

from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import TypeAlias

import msgspec
from msgspec import Struct

from schema.marks import Mark
from schema.tasks import Stream

Data: TypeAlias = tuple[int, bytes, list[Mark]]
"""Bytes of a stream as they are stored: (first byte in the stream, bytes, times)"""

LONG_LINE_BYTES = 1024 * 1024  # longer lines leave in pieces, so that memory stays bounded
LAST_BYTES = 8 * 1024 * 1024


class Block(Struct, frozen=True, gc=False):
    """Lines of one stream whose ends were read at one time, or a piece of a long line."""

    stream: Stream
    offset: int
    """Of the first byte, in the stream."""
    time_us: int
    data: bytes
    over: bool
    """Its last line ends here, with a newline or without; else the next block of its stream goes on
    with it."""
    line: int = 0
    """Number of its first line in the merged view, from 1; 0 where they are not counted."""
    inside: bool = False
    """It begins in the middle of that line."""
    open: bool = False
    """Its stream may go on, and its last line with it: it stands behind all lines that are over."""

    @property
    def cut(self) -> bool:
        """Whether the last line ends without a newline: the stream ends, or bytes are missing."""
        return self.over and not self.data.endswith(b"\n")

    @property
    def ends(self) -> int:
        """How many lines end here."""
        return self.data.count(b"\n") + self.cut

    def behind(self, lines: int) -> "Block | None":
        """What is left without so many lines; None where that is nothing."""
        parts = self.data.split(b"\n", lines)
        if len(parts) <= lines or not parts[-1]:
            return None
        return msgspec.structs.replace(
            self, offset=self.offset + len(self.data) - len(parts[-1]), data=parts[-1],
            line=self.line + lines, inside=False,
        )  # fmt: skip


Blocks: TypeAlias = AsyncGenerator[Block, None]


async def split(stream: Stream, stored: AsyncGenerator[Data, None], *, open_end: bool) -> Blocks:
    """Lines of one stream, each with the time at which its end was read."""
    rest = bytearray()
    at = end = time_us = 0
    inside = False
    async with aclosing(stored):
        async for start, data, times in stored:
            if start != end and (rest or inside):  # bytes are missing
                yield Block(stream, at, time_us, bytes(rest), over=True)
                rest.clear()
                inside = False
            end = start + len(data)
            for index, (offset, mark_us) in enumerate(times):
                time_us = mark_us
                stop = times[index + 1][0] if index + 1 < len(times) else len(data)
                # Only the new piece is searched: a progress bar has many marks and no newline.
                searched = len(rest)
                if not searched:
                    at = start + offset
                rest += data[offset:stop]
                cut = rest.rfind(b"\n", searched) + 1
                if cut:
                    yield Block(stream, at, time_us, bytes(rest[:cut]), over=True)
                    del rest[:cut]
                    at += cut
                    inside = False
                elif len(rest) >= LONG_LINE_BYTES:
                    yield Block(stream, at, time_us, bytes(rest), over=False)
                    at += len(rest)
                    rest.clear()
                    inside = True
    if rest or inside:
        yield Block(stream, at, time_us, bytes(rest), over=True, open=open_end)


async def merge(sources: Sequence[Blocks], line: int | None = None) -> Blocks:
    """Blocks of all sources by time; numbered from `line` on, which halves the speed."""
    async with AsyncExitStack() as stack:
        for source in sources:
            await stack.enter_async_context(aclosing(source))
        heads = [await anext(source, None) for source in sources]
        current: int | None = None
        while True:
            chosen = current
            if chosen is None:
                waiting = [
                    (head.open, head.time_us, index) for index, head in enumerate(heads) if head
                ]
                if not waiting:
                    return
                chosen = min(waiting)[2]
            block = heads[chosen]
            assert block is not None  # a line that goes on has an end: see `split`
            heads[chosen] = await anext(sources[chosen], None)
            if line is not None:
                yield msgspec.structs.replace(block, line=line, inside=current is not None)
                line += block.ends
            elif current is not None:
                yield msgspec.structs.replace(block, inside=True)
            else:
                yield block
            current = None if block.over else chosen


async def without(blocks: Blocks, lines: int) -> Blocks:
    """All but the first so many lines."""
    async with aclosing(blocks):
        async for block in blocks:
            if lines <= 0:
                yield block
                continue
            left = block.behind(lines)
            lines -= block.ends
            if left is not None:
                yield left


async def first(blocks: Blocks, lines: int) -> Blocks:
    """No more than so many lines."""
    async with aclosing(blocks):
        while lines > 0 and (block := await anext(blocks, None)):
            left = block.behind(lines)
            if left is not None:
                data = block.data[: len(block.data) - len(left.data)]
                block = msgspec.structs.replace(block, data=data, over=True)
            yield block
            lines -= block.ends


async def last(blocks: Blocks, lines: int) -> Blocks:
    """The last lines, at most 8 MiB of them."""
    kept: deque[Block] = deque()
    found = size = 0
    async with aclosing(blocks):
        async for block in blocks:
            kept.append(block)
            found += block.ends
            size += len(block.data)
            while len(kept) > 1 and (
                found - kept[0].ends > lines or size - len(kept[0].data) > LAST_BYTES
            ):
                gone = kept.popleft()
                found -= gone.ends
                size -= len(gone.data)
    surplus = found - lines
    while kept and surplus > 0:
        block = kept.popleft()
        surplus -= block.ends
        if (left := block.behind(surplus + block.ends)) is not None:
            kept.appendleft(left)
    for block in kept:
        yield block
