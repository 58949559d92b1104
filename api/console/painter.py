"""Turns the events of a live log into rows for one page. Pure.

Output becomes whole rows with their numbers, and the open line of each stream as far as it is
known. The id of such an event stands before the open lines, so that a browser which comes back is
told them from their beginning: a line's colours need all of it.
"""

from collections.abc import Iterator

import msgspec

from api import positions
from api.console.rows import MAX_CHARACTERS, Row, painted
from api.live import events
from api.positions import Position
from schema.logs import Output, Piece
from schema.tasks import Stream

_OUTPUT = b"event: output\n"
_TOLD_AGAIN_BYTES = 65_536
_decode = msgspec.json.Decoder(list[Output]).decode


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """The event `rows`."""

    attempt: int
    first: int
    """Number of the first row."""
    rows: list[Row]
    open: list[Row]
    """Lines that are not over: at most one of each stream."""


class _Open(msgspec.Struct):
    offset: int
    """Of its first byte."""
    text: str
    at_us: int
    left_out: int = 0

    def add(self, text: str, at_us: int) -> None:
        """More of it. What is written over is forgotten: progress may go on for hours."""
        both = self.text + text
        _, over, shown = both.rstrip("\r").rpartition("\r")
        if over:
            self.left_out = 0
        self.left_out += max(0, len(shown) - MAX_CHARACTERS)
        self.text = shown[:MAX_CHARACTERS] + ("\r" if both.endswith("\r") else "")
        self.at_us = at_us


def before_open(position: Position, offsets: dict[Stream, int]) -> Position:
    """The same place without the open lines that begin at these bytes, if they are not endless."""
    near = {
        stream: offset
        for stream, offset in offsets.items()
        if position.offset(stream) - offset <= _TOLD_AGAIN_BYTES
    }
    return msgspec.structs.replace(position, **near)


class Painter:
    """What one page has been told of the open lines."""

    def __init__(self) -> None:
        self._open: dict[Stream, _Open] = {}

    def frame(self, frame: bytes) -> bytes:
        """Whole events, as they were written for programs, as they are for a page."""
        if _OUTPUT not in frame:
            return frame
        parts = frame.split(b"\n\n")[:-1]
        return b"".join(
            self._output(part) if part.startswith(_OUTPUT) else part + b"\n\n" for part in parts
        )

    def _output(self, event: bytes) -> bytes:
        fields = dict(line.partition(b": ")[::2] for line in event.split(b"\n"))
        (output,) = _decode(fields[b"data"])
        rows: list[Row] = []
        first = 0
        for piece in output.pieces:
            for place, row in enumerate(self._finished(piece)):
                if not rows:
                    first = piece.line + place
                rows.append(row)
        told = Rows(
            attempt=output.attempt,
            first=first,
            rows=rows,
            open=[
                painted(line.text, stream, line.at_us, line.left_out)
                for stream, line in self._open.items()
            ],
        )
        position = positions.parse(fields[b"id"].decode())
        offsets = {stream: line.offset for stream, line in self._open.items()}
        return events.event("rows", told, before_open(position, offsets))

    def _finished(self, piece: Piece) -> Iterator[Row]:
        """The lines that a piece ends; what it begins is kept."""
        stream = piece.stream
        *whole, rest = piece.text.split("\n")
        if rest and not piece.open:
            whole.append(rest)
            rest = ""
        for text in whole:
            opened = self._open.pop(stream, None)
            if opened is None:
                yield painted(text, stream, piece.at_us)
            else:
                opened.add(text, piece.at_us)
                yield painted(opened.text, stream, piece.at_us, opened.left_out)
        if not rest:
            return
        opened = self._open.get(stream)
        if opened is None:
            data = piece.text.encode() if piece.base64 is None else piece.base64
            begins = piece.offset + data.rfind(b"\n") + 1
            opened = self._open[stream] = _Open(begins, "", piece.at_us)
        opened.add(rest, piece.at_us)
