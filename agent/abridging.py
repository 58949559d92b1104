"""The log of an attempt that writes more than a log may hold: its head and its tails. No I/O.

Both streams share the head, which leaves as it comes. What comes when that is used up waits in
memory, the last MiB of each stream, until the attempt ends; then a line says how much is left out.
"""

from collections import deque
from collections.abc import Iterator
from operator import itemgetter
from typing import NamedTuple

from agent.streams import MAX_MARKS
from schema.tasks import Stream

TAIL_BYTES = 1024 * 1024

_TAIL_SHARE = 4  # a small log has a small tail: one part in so many, for each stream
_MARKER_BYTES = 200  # room for the line in between


class Piece(NamedTuple):
    """What was read in one go, or a few."""

    time_us: int
    data: bytes


class Abridging:
    """Both streams of one attempt, whose log may hold `most_bytes`."""

    __slots__ = ("_head_left", "_most_bytes", "_tails")

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._head_left = most_bytes - 2 * (self._tail_bytes + _MARKER_BYTES)
        self._tails: dict[Stream, _Tail] = {}

    @property
    def _tail_bytes(self) -> int:
        return min(TAIL_BYTES, self._most_bytes // _TAIL_SHARE)

    def take(self, stream: Stream, data: bytes, now_us: int) -> bytes:
        """Give what of it belongs to the head."""
        if len(data) <= self._head_left and stream not in self._tails:
            self._head_left -= len(data)
            return data
        head = b""
        if stream not in self._tails:
            lines = data.rfind(b"\n", 0, self._head_left) + 1
            head = data[: lines or self._head_left]
            self._head_left -= len(head)
            self._tails[stream] = _Tail(self._tail_bytes, whole_lines=lines > 0)
        self._tails[stream].append(Piece(now_us, data[len(head) :]))
        return head

    def rest(self) -> Iterator[tuple[Stream, Piece]]:
        """Give what has not left, in the order of its times: the attempt has ended."""
        found: list[tuple[int, Stream, Piece]] = []
        for stream, tail in self._tails.items():
            pieces = tail.pieces()
            if tail.left_out:
                found.append((pieces[0].time_us, stream, self._marker(stream, tail, pieces[0])))
            found += [(piece.time_us, stream, piece) for piece in pieces]
        for _, stream, piece in sorted(found, key=itemgetter(0)):
            yield stream, piece

    def left_out(self, stream: Stream) -> int:
        """Bytes of it that were dropped; known when `rest` was given."""
        return self._tails[stream].left_out if stream in self._tails else 0

    def _marker(self, stream: Stream, tail: "_Tail", first: Piece) -> Piece:
        text = (
            f"[{tail.left_out:,} bytes in {tail.left_out_lines:,} lines of {stream} are left out"
            f" here: the log is limited to {self._most_bytes:,} bytes (MAX_LOG_BYTES)]\n"
        )
        return Piece(first.time_us, f"{'' if tail.whole_lines else chr(10)}{text}".encode())


class _Tail:
    """The last bytes of one stream, and how much came before them that is gone."""

    __slots__ = ("_most", "_pieces", "_size", "left_out", "left_out_lines", "whole_lines")

    def __init__(self, most_bytes: int, *, whole_lines: bool) -> None:
        self._most = most_bytes
        self._pieces: deque[Piece] = deque()
        self._size = 0
        self.left_out = 0
        self.left_out_lines = 0
        self.whole_lines = whole_lines
        """Whether what stands before it ends a line."""

    def append(self, piece: Piece) -> None:
        """Drop what the newest bytes leave no room for, in whole pieces."""
        self._pieces.append(piece)
        self._size += len(piece.data)
        while self._size - len(self._pieces[0].data) >= self._most:
            self._drop(self._pieces.popleft().data)
        if len(self._pieces) > MAX_MARKS:
            # Byte-wise writers: an object for each byte would weigh a hundred times its content.
            pieces = list(self._pieces)
            pairs = zip(pieces[::2], [*pieces[1::2], Piece(0, b"")], strict=False)
            self._pieces = deque(Piece(one.time_us, one.data + two.data) for one, two in pairs)

    def pieces(self) -> list[Piece]:
        """All that is kept, from the beginning of a line on if there is one soon."""
        first = self._pieces[0]
        cut = max(0, self._size - self._most)
        if self.left_out or cut:
            cut = first.data.find(b"\n", cut, len(first.data) - 1) + 1 or cut
            self._drop(first.data[:cut])
            self._pieces[0] = Piece(first.time_us, first.data[cut:])
        return list(self._pieces)

    def _drop(self, data: bytes) -> None:
        self._size -= len(data)
        self.left_out += len(data)
        self.left_out_lines += data.count(b"\n")
