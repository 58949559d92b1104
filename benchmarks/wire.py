"""A bare HTTP/1.1 client: one keep-alive connection, one request at a time, next to no cost.

aiohttp takes some 150 µs a request on the client's side, which on a small machine the server pays.
"""

import asyncio
import re
import time
from typing import TypeVar, cast

import msgspec

T = TypeVar("T")

_STATUS = slice(9, 12)  # "HTTP/1.1 200 OK"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_BODY_STARTS = b"\r\n\r\n"

JSON = "application/json"
MSGPACK = "application/msgpack"


class WireError(Exception):
    """The server refused, or hung up."""


class Connection(asyncio.Protocol):
    """Made by `connect`."""

    def __init__(self, port: int) -> None:
        self.waits_s: list[float] = []
        """How long each answer took, from the sending on."""
        self._port = port
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._answer: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has another base

    def data_received(self, data: bytes) -> None:
        """Answer when the whole body is there."""
        self._received += data
        start = self._received.find(_BODY_STARTS) + len(_BODY_STARTS)
        if start < len(_BODY_STARTS) or self._answer is None or self._answer.done():
            return
        length = _LENGTH.search(self._received, 0, start)
        if length is None:
            self._answer.set_exception(WireError("an answer without Content-Length"))
        elif len(self._received) - start >= int(length[1]):
            body = bytes(self._received[start:])
            status = int(self._received[_STATUS])
            self._received.clear()
            if status < 300:
                self._answer.set_result(body)
            else:
                self._answer.set_exception(WireError(f"{status}: {body[:500]!r}"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail who waits."""
        self._transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(WireError(f"the server hung up: {exc}"))

    async def open(self) -> None:
        """Connect."""
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self, "127.0.0.1", self._port)

    async def send(self, request: bytes) -> bytes:
        """Send a whole request; the answer's body. WireError unless its status is 2xx."""
        if self._transport is None:  # Granian hangs up on who is silent for 30 s
            await self.open()
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        sent_at = time.perf_counter()
        self._transport.write(request)
        body = await self._answer
        self.waits_s.append(time.perf_counter() - sent_at)
        return body

    async def post(self, path: str, sent: object, answer: type[T]) -> T:
        """Send JSON, decode the answer."""
        body = await self.send(post(path, msgspec.json.encode(sent)))
        return msgspec.json.decode(body, type=answer)

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()


async def connect(port: int) -> Connection:
    """Open a connection to a server of this machine."""
    connection = Connection(port)
    await connection.open()
    return connection


def post(path: str, body: bytes, content_type: str = JSON, encoding: str | None = None) -> bytes:
    """Write out a POST request."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\n"
    if encoding is not None:
        head += f"Content-Encoding: {encoding}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
