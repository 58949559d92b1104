"""Lines that have a text in them: grep in bounded memory, in a time that no pattern can stretch."""

from collections.abc import Iterator
from contextlib import aclosing

import msgspec
from msgspec import Struct

from api.merging import Block, Blocks


class BadPatternError(ValueError):
    """Nothing can be searched for with it; the text says why."""


class Pattern(Struct, frozen=True):
    """Texts that a line has one behind the other.

    Not a regular expression: Python's take exponential time where somebody means ill or nobody
    thinks, hold the GIL meanwhile, and cannot be stopped. This takes a few passes over the bytes.
    """

    parts: tuple[bytes, ...]
    ignore_case: bool

    def folded(self, data: bytes) -> bytes:
        """As it is compared: of ASCII letters alone the case can be ignored."""
        return data.lower() if self.ignore_case else data

    def lines(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Where the lines that match begin and end, with their newlines."""
        searched = self.folded(data)
        first, *others = self.parts
        at = searched.find(first)
        while at >= 0:
            end = searched.find(b"\n", at)
            end = len(data) if end < 0 else end + 1
            behind = at + len(first)
            for part in others:
                found = searched.find(part, behind, end)
                if found < 0:
                    break
                behind = found + len(part)
            else:
                yield searched.rfind(b"\n", 0, at) + 1, end
            at = searched.find(first, end)


def pattern(text: str, *, wildcards: bool, ignore_case: bool) -> Pattern:
    """Make one; with wildcards, `*` stands for any run of bytes. BadPatternError."""
    if "\n" in text:
        raise BadPatternError("grep looks at one line at a time: the text must not have a newline")
    raw = text.encode()
    parts = tuple(filter(None, raw.split(b"*"))) if wildcards else (raw,)
    if not parts or not parts[0]:
        raise BadPatternError("grep needs a text to look for")
    return Pattern(tuple(part.lower() for part in parts) if ignore_case else parts, ignore_case)


class _LongLine:
    """A line that comes in pieces: whether it matches up to here."""

    def __init__(self, pattern: Pattern) -> None:
        self._pattern = pattern
        self._left = list(pattern.parts)
        self._rest = b""

    def matches(self, piece: bytes) -> bool:
        """Look at one more piece."""
        searched = self._rest + self._pattern.folded(piece)
        while self._left:
            at = searched.find(self._left[0])
            if at < 0:
                keep = len(self._left[0]) - 1  # it may begin at the end of this piece
                self._rest = searched[len(searched) - keep :] if keep else b""
                return False
            searched = searched[at + len(self._left.pop(0)) :]
        return True


async def matching(blocks: Blocks, wanted: Pattern) -> Blocks:
    """The lines that match, with their numbers, a block each.

    A line that leaves in pieces is given from the piece on in which it turned out to match.
    """
    long: _LongLine | None = None
    shown = False
    async with aclosing(blocks):
        async for each in blocks:
            block = each
            if long is not None or not block.over:
                long = long or _LongLine(wanted)
                piece = block
                if block.over:
                    piece = _to_first_end(block)
                if long.matches(piece.data):
                    yield msgspec.structs.replace(piece, inside=shown)
                    shown = True
                if not block.over:
                    continue
                long, shown = None, False
                left = block.behind(1)
                if left is None:
                    continue
                block = left
            number, counted = block.line, 0
            for start, end in wanted.lines(block.data):
                number += block.data.count(b"\n", counted, start)
                counted = start
                yield msgspec.structs.replace(
                    block, offset=block.offset + start, data=block.data[start:end], line=number,
                    inside=False,
                )  # fmt: skip


def _to_first_end(block: Block) -> Block:
    end = block.data.find(b"\n")
    return block if end < 0 else msgspec.structs.replace(block, data=block.data[: end + 1])
