"""Somebody who watches live logs and keeps nothing of them, at next to no cost."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, cast

import msgspec

from benchmarks.server import BenchServer
from schema.logs import Output

_EVENT_ENDS = b"\n\n"
_OUTPUT = b"event: output\ndata: "
_LAST = (b"event: end\n", b"event: done\n")
_outputs = msgspec.json.Decoder(list[Output])


class Watcher(asyncio.Protocol):
    """One connection to a live route."""

    def __init__(self, path: str, heard: Callable[[bytes, float], None]) -> None:
        """`heard` is told of the JSON of each `output` event, and when it came (`time.time`)."""
        self.ended = asyncio.get_running_loop().create_future()
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._path = path
        self._heard = heard
        self._rest = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has another base
        request = f"GET {self._path} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        self._transport.write(request.encode())

    def data_received(self, data: bytes) -> None:
        """Look for events. What HTTP puts between chunks stands between events, too."""
        now = time.time()
        *events, self._rest = (self._rest + data).split(_EVENT_ENDS)
        for event in events:
            at = event.find(_OUTPUT)
            if at >= 0:
                self._heard(event[at + len(_OUTPUT) :].partition(b"\n")[0], now)
            elif any(last in event for last in _LAST) and not self.ended.done():
                self.ended.set_result(None)
            if b"event: " in event and not self.begun.done():
                self.begun.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        for each in (self.begun, self.ended):
            if not each.done():
                each.set_exception(exc or ConnectionError("the server hung up"))
                each.exception()  # who waits is told; nobody need wait

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()


async def watch(server: BenchServer, path: str, heard: Callable[[bytes, float], None]) -> Watcher:
    """Connect, and wait for the first event."""
    loop: Any = asyncio.get_running_loop()
    _, watcher = await loop.create_connection(
        lambda: Watcher(path, heard), "127.0.0.1", server.port
    )
    found = cast("Watcher", watcher)
    await found.begun
    return found


def lines(data: bytes) -> list[str]:
    """The lines of the JSON of an `output` event."""
    pieces = [piece for output in _outputs.decode(data) for piece in output.pieces]
    return "".join(piece.text for piece in pieces).splitlines()
