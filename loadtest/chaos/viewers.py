"""People who watch tasks live through all that happens, and note what they are shown."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import aclosing

from isal import isal_zlib
from msgspec import Struct

from client.client import Client
from client.errors import DwError
from client.live import LiveEvent, data_of
from client.transport import Patience
from loadtest.chaos.case import Case
from schema.logs import LogOver, Output
from schema.tasks import Stream, StreamLog

_VIEWERS = 4
_LOOK_S = 0.2
_PATIENCE = Patience(first_s=60, later_s=60)
_STREAMS: tuple[Stream, ...] = ("stdout", "stderr")

Key = tuple[int, int, Stream]
"""(task, attempt, stream)"""


class Seen(Struct, eq=False):
    """What one viewer was shown of one stream of one attempt."""

    size: int = 0
    crc: int = 0
    end: int = 0
    """How far it goes."""
    gaps: int = 0
    """Bytes that were left out."""
    back: int | None = None
    """Where something came that was not behind all that had come."""
    told: StreamLog | None = None
    """What the log said of itself, when all of it was shown."""
    afterwards: bool = False
    """More came when all was said to be shown."""

    def take(self, offset: int, data: bytes) -> None:
        """Note a piece."""
        if offset < self.end and self.back is None:
            self.back = offset
        self.gaps += max(0, offset - self.end)
        self.end = offset + len(data)
        self.size += len(data)
        self.crc = isal_zlib.crc32(data, self.crc)
        self.afterwards |= self.told is not None


class Viewers:
    """Some of them, each with one task at a time."""

    def __init__(self, open_cases: Callable[[], Iterable[Case]]) -> None:
        self.seen: defaultdict[Key, list[Seen]] = defaultdict(list)
        self.watching: set[int] = set()
        """Tasks."""
        self._open = open_cases
        self._taken: set[int] = set()
        self._more = True

    def stop(self) -> None:
        """Begin with no more tasks."""
        self._more = False

    async def run(self, url: str) -> None:
        """Watch until `stop` was called and every stream has ended."""
        async with Client(url, patience=_PATIENCE) as client, asyncio.TaskGroup() as group:
            for _ in range(_VIEWERS):
                group.create_task(self._view(client))

    async def _view(self, client: Client) -> None:
        while self._more:
            new = (case.id for case in self._open() if case.id and case.id not in self._taken)
            task = next(new, None)
            if task is None:
                await asyncio.sleep(_LOOK_S)
                continue
            self._taken.add(task)
            self.watching.add(task)
            try:
                await self._follow(client, task)
            except DwError:
                pass  # the server was away for longer than anybody waits
            finally:
                self.watching.discard(task)

    async def _follow(self, client: Client, task: int) -> None:
        mine: dict[Key, Seen] = {}

        def seen(attempt: int, stream: Stream) -> Seen:
            key = (task, attempt, stream)
            if key not in mine:
                mine[key] = Seen()
                self.seen[key].append(mine[key])
            return mine[key]

        async with aclosing(client.live(task)) as events:
            async for event in events:
                _note(event, seen)


def _note(event: LiveEvent, seen: Callable[[int, Stream], Seen]) -> None:
    if isinstance(event, Output):
        for piece in event.pieces:
            seen(event.attempt, piece.stream).take(piece.offset, data_of(piece))
    elif isinstance(event, LogOver):
        for stream in _STREAMS:
            seen(event.attempt, stream).told = getattr(event, stream)
