"""A page of lines of a log, for somebody who scrolls or searches."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

from msgspec import Struct

from api import merging, searching, texts
from api.contents import StreamContents
from api.merging import Block, Blocks
from api.positions import Position
from api.reading import LogReader, View
from schema.logs import WORST, LogLine, LogPage

_LINE_BYTES = 16_384  # more of one line nobody reads in a list
_PAGE_BYTES = 4 * 1024 * 1024
_SEARCH_S = 2.0


async def read(
    reader: LogReader, task: int, contents: Sequence[StreamContents], view: View
) -> LogPage:
    """`view.lines` lines from `view.line` on, or the last `view.tail`.

    A search gives what it found within two seconds, and where to go on.
    """
    searches = view.pattern is not None
    first, merged = await reader.merged(view)
    looked = _Looked(merged, first, view.line, _SEARCH_S if searches else None)
    blocks = merging.without(looked.blocks(), view.line - first)
    if view.pattern is not None:
        blocks = searching.matching(blocks, view.pattern)
    if view.tail is not None:
        blocks = merging.last(blocks, view.tail)
    found = _Lines(view.lines)
    async with aclosing(blocks):
        async for block in blocks:
            if not found.add(block):
                break
            if searches and block.over and found.full:
                found.following = found.last + 1
                break
        else:
            found.following = looked.line if looked.stopped else None
    ends = {each.stream: each.end for each in contents}
    attempt = contents[0].place.attempt
    behind = Position(attempt, ends.get("stdout", 0), ends.get("stderr", 0), looked.over)
    return LogPage(
        task=task,
        attempt=attempt,
        state=min((each.state for each in contents), key=WORST.index),
        total=max(looked.line - 1, sum(each.summary().lines for each in contents)),
        lines=found.all(),
        next=found.following,
        after=str(behind) if found.following is None and not searches else None,
    )


class _Looked:
    """How far a log was looked through."""

    def __init__(self, blocks: Blocks, line: int, wanted: int, within_s: float | None) -> None:
        """Stop after so many seconds, if the line that is wanted is behind."""
        self._blocks = blocks
        self._wanted = wanted
        self._within_s = within_s
        self.line = line
        """Number of the next one."""
        self.over = line - 1
        """Lines before it that are over."""
        self.stopped = False
        """The time is over."""

    async def blocks(self) -> Blocks:
        """Pass them on until the time is over."""
        loop = asyncio.get_running_loop()
        until = None if self._within_s is None else loop.time() + self._within_s
        async with aclosing(self._blocks) as blocks:
            async for block in blocks:
                yield block
                self.line += block.ends
                self.over += 0 if block.open else block.ends
                if until is None or self.line <= self._wanted or not block.over:
                    continue
                if loop.time() > until:
                    self.stopped = True
                    return


class _Line(Struct):
    """One that may still grow."""

    block: Block
    number: int
    offset: int
    data: bytes
    cut: int = 0

    def add(self, data: bytes) -> None:
        kept = data[: max(0, _LINE_BYTES - len(self.data))]
        self.data += kept
        self.cut += len(data) - len(kept)

    def made(self) -> LogLine:
        data = self.data[: texts.whole(self.data)] if self.cut else self.data
        text, exact = texts.decoded(data)
        return LogLine(
            line=self.number,
            stream=self.block.stream,
            at_us=self.block.time_us,
            offset=self.offset,
            text=text,
            base64=exact,
            open=self.block.open,
            cut=self.cut + len(self.data) - len(data),
        )


class _Lines:
    """The lines of a page, as they are found."""

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._found: list[_Line] = []
        self._bytes = 0
        self.following: int | None = None
        """Number of the first one that has no room."""

    @property
    def full(self) -> bool:
        """Whether no more fits."""
        return len(self._found) == self._most or self._bytes > _PAGE_BYTES

    @property
    def last(self) -> int:
        """Number of the last one."""
        return self._found[-1].number

    def add(self, block: Block) -> bool:
        """Take the lines of a block; False where not all had room."""
        offset = block.offset
        goes_on = block.inside and bool(self._found)
        if goes_on:
            self._found[-1].block = block
        lines = block.data.split(b"\n")
        for index, data in enumerate(lines if lines[-1] else lines[:-1]):
            if index or not goes_on:
                if self.full:
                    self.following = block.line + index
                    return False
                self._found.append(_Line(block, block.line + index, offset, b""))
            self._found[-1].add(data)
            self._bytes += min(len(data), _LINE_BYTES)
            offset += len(data) + 1
        return True

    def all(self) -> tuple[LogLine, ...]:
        """All of them, in order."""
        return tuple(line.made() for line in self._found)
