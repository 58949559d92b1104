"""Live logs: server-sent events, from a connection that is made again until all was told."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec

from client.errors import BrokenOffError, UnreadableError
from schema.logs import (
    AttemptBegun,
    GroupNow,
    LogOver,
    Output,
    Piece,
    TaskEnded,
    TaskNow,
)

if TYPE_CHECKING:
    from client.transport import Params, Transport

_Raw = tuple[str, bytes, str | None]
"""(name, data, id)"""

LiveEvent = TaskNow | AttemptBegun | Output | LogOver | TaskEnded | GroupNow

AGAIN_S = 0.2
_BROKEN_MOST = 10  # connections in a row that bring no event
_NO_CONTENT = 204
_KINDS: dict[str, Any] = {
    "status": TaskNow,
    "attempt": AttemptBegun,
    "output": list[Output],
    "log": LogOver,
    "end": TaskEnded,
    "group": GroupNow,
    "done": GroupNow,
}


def data_of(piece: Piece) -> bytes:
    """What the task wrote."""
    return piece.text.encode() if piece.base64 is None else piece.base64


async def events(
    http: "Transport", path: str, params: "Params", *, last: str
) -> AsyncGenerator[LiveEvent, None]:
    """All events up to the one that is named `last`; each once, whatever breaks in between."""
    position: str | None = None
    broken = 0
    while True:
        headers = {} if position is None else {"Last-Event-ID": position}
        before = position
        async with http.stream(path, params, headers) as reply:
            if reply.status == _NO_CONTENT:
                return
            async with aclosing(_read(reply)) as read:
                async for name, data, id_ in read:
                    broken = 0
                    if name in _KINDS:
                        for event in _decoded(data, name, http.url):
                            yield event
                    position = id_ or position
                    if name == last:
                        return
        if position == before:
            broken += 1
        if broken == _BROKEN_MOST:
            raise BrokenOffError(f"{http.url}{path}", 0)
        await asyncio.sleep(AGAIN_S)


def _decoded(data: bytes, name: str, url: str) -> list[LiveEvent]:
    try:
        decoded = msgspec.json.decode(data, type=_KINDS[name])
    except msgspec.DecodeError as error:
        raise UnreadableError(url, 200, str(error)) from error
    return decoded if isinstance(decoded, list) else [decoded]


async def _read(reply: aiohttp.ClientResponse) -> AsyncGenerator[_Raw, None]:
    """Each whole event, until the connection ends in whatever way."""
    rest = b""
    with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
        async for piece in reply.content.iter_any():
            *whole, rest = (rest + piece).split(b"\n\n")
            for event in whole:
                fields = dict(line.partition(b": ")[::2] for line in event.split(b"\n"))
                name, data = fields.get(b"event"), fields.get(b"data")
                if name is not None and data is not None:
                    at = fields.get(b"id")
                    yield name.decode(), data, None if at is None else at.decode()
