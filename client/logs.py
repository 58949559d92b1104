"""Logs as the client asks for them, and while they are read."""

from collections.abc import AsyncIterator
from typing import Literal, get_args

import aiohttp
from msgspec import Struct

from client.errors import BrokenOffError
from schema.tasks import LogState, Stream

Timestamps = Literal["iso", "elapsed", "none"]

_STATES: dict[str, LogState] = {state: state for state in get_args(LogState)}


class Lines(Struct, frozen=True, kw_only=True):
    """Which lines of a log, and what stands before each."""

    line: int | None = None
    """The first one, by its number."""
    tail: int | None = None
    """So many at the end; with `grep`, of those that have it."""
    grep: str | None = None
    """Only those that have this text."""
    wildcards: bool = False
    """`*` in it stands for any run of characters."""
    ignore_case: bool = False
    """Of ASCII letters."""
    numbers: bool = False
    timestamps: Timestamps = "none"

    def params(self) -> dict[str, str | int | None]:
        """What was asked for, as parameters of a request."""
        flags = ("wildcards", "ignore_case", "numbers")
        return {
            "line": self.line,
            "tail": self.tail,
            "grep": self.grep,
            "timestamps": None if self.timestamps == "none" else self.timestamps,
            **{name: "true" for name in flags if getattr(self, name)},
        }


ALL_LINES = Lines()


class Log:
    """A log that is being read: iterate over it for its bytes, in pieces of any size."""

    def __init__(self, reply: aiohttp.ClientResponse, url: str) -> None:
        self.state: LogState = _STATES.get(reply.headers.get("Log-State", ""), "open")
        """What the log said of itself when the reading began."""
        self._missing = reply.headers.get("Log-Missing", "")
        self._reply = reply
        self._url = url

    def missing(self, stream: Stream) -> list[tuple[int, int]]:
        """Byte ranges of a stream that this reading steps over: first, and one past the last."""
        ranges = []
        for each in self._missing.split(", "):
            name, _, range_ = each.partition("=")
            first, _, last = range_.partition("-")
            if name == stream and first.isdecimal() and last.isdecimal():
                ranges.append((int(first), int(last) + 1))
        return ranges

    async def __aiter__(self) -> AsyncIterator[bytes]:
        received = 0
        try:
            async for piece in self._reply.content.iter_any():
                received += len(piece)
                yield piece
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise BrokenOffError(self._url, received) from error
