"""Following a whole group: whole lines, each behind the number of its task."""

from collections.abc import AsyncIterator, Callable

from client.live import LiveEvent, data_of
from schema.logs import LogOver, Output, TaskEnded
from schema.tasks import Stream

_LONG_BYTES = 65_536  # a line that is longer leaves in pieces

Write = Callable[[int, Stream, bytes], None]
"""(task, stream, a whole line)"""


class Lines:
    """Puts lines together: those of several tasks must not mix."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._open: dict[tuple[int, Stream], bytes] = {}

    def take(self, task: int, stream: Stream, data: bytes) -> None:
        """Write the lines that end here, and keep what does not."""
        *whole, rest = (self._open.pop((task, stream), b"") + data).split(b"\n")
        for line in whole:
            self._write(task, stream, line + b"\n")
        if len(rest) >= _LONG_BYTES:
            self._write(task, stream, rest + b"\n")
        elif rest:
            self._open[task, stream] = rest

    def end(self, task: int) -> None:
        """Nothing more comes of that attempt."""
        for key in [key for key in self._open if key[0] == task]:
            self._write(*key, self._open.pop(key) + b"\n")


async def follow_group(
    events: AsyncIterator[LiveEvent],
    write: Write,
    *,
    ended: Callable[[TaskEnded], None],
    told: Callable[[LogOver], None],
) -> None:
    """Write what all tasks write, until all have ended.

    `told` hears what each log says of itself when all of it is written, `ended` how its task went.
    """
    lines = Lines(write)
    async for event in events:
        if isinstance(event, Output):
            for piece in event.pieces:
                lines.take(event.task, piece.stream, data_of(piece))
        elif isinstance(event, LogOver):
            lines.end(event.task)
            told(event)
        elif isinstance(event, TaskEnded):
            ended(event)
