"""Somebody who watches live logs in a test, as a browser does, and checks what he is told."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp
import msgspec

from tests.api.server import Api


class Event(NamedTuple):
    """One event as it came."""

    name: str
    data: Any
    id: str | None


def data_of(what: dict[str, Any]) -> bytes:
    """The bytes of a piece, or of a line of a page."""
    return base64.b64decode(what["base64"]) if "base64" in what else what["text"].encode()


class Viewer:
    """Reads one stream, and connects again when told to."""

    def __init__(self, api: Api, path: str, headers: dict[str, str] | None = None) -> None:
        self.api = api
        self.path = path
        self.headers = headers or {}
        self.events: list[Event] = []
        self.logs: dict[tuple[int, int, str], bytearray] = {}
        """By task, attempt and stream."""
        self.last_id: str | None = None
        self.status = 0
        self.comments = 0
        self.received = 0
        self.over = False
        """The stream ended by itself."""

    async def watch(self, until: Callable[["Viewer"], bool] | None = None) -> None:
        """Read until the stream ends by itself, or as soon as `until` says so."""
        async with self.reply() as reply:
            async for event in self.read(reply):
                self.take(event)
                if until is not None and until(self):
                    return
        self.over = True

    async def watch_bytes(self, most: int) -> None:
        """Read so many bytes of the answer, and hang up in the middle of whatever it is."""
        async with self.reply() as reply:
            async for event in self.read(reply, most):
                self.take(event)

    @asynccontextmanager
    async def reply(self) -> AsyncIterator[aiohttp.ClientResponse]:
        """Connect, as a browser that was cut off."""
        headers = self.headers | ({} if self.last_id is None else {"Last-Event-ID": self.last_id})
        self.over = False
        timeout = aiohttp.ClientTimeout(total=60)
        async with self.api.http.get(
            self.api.url + self.path, headers=headers, timeout=timeout
        ) as reply:
            self.status = reply.status
            yield reply

    async def read(
        self, reply: aiohttp.ClientResponse, most: int | None = None
    ) -> AsyncIterator[Event]:
        """Whole events; what is cut off counts for nothing."""
        assert reply.status in {200, 204}, await reply.text()
        rest = b""
        async for piece in reply.content.iter_any():
            part = piece if most is None else piece[: most - self.received]
            self.received += len(part)
            *events, rest = (rest + part).split(b"\n\n")
            for event in events:
                if (made := self._event(event)) is not None:
                    yield made
            if most is not None and self.received >= most:
                reply.close()
                return

    def _event(self, text: bytes) -> Event | None:
        if text.startswith(b":"):
            self.comments += 1
            return None
        fields = dict(line.split(b": ", 1) for line in text.split(b"\n"))
        if b"event" not in fields:
            assert set(fields) == {b"retry"}
            return None
        at = fields.get(b"id")
        data = msgspec.json.decode(fields[b"data"])
        return Event(fields[b"event"].decode(), data, None if at is None else at.decode())

    def take(self, event: Event) -> None:
        """Note an event; each byte must stand where it belongs."""
        self.events.append(event)
        if event.id is not None:
            self.last_id = event.id
        if event.name == "output":
            assert event.id is not None
            for output in event.data:
                for piece in output["pieces"]:
                    self._piece(output["task"], output["attempt"], piece)

    def _piece(self, task: int, attempt: int, piece: dict[str, Any]) -> None:
        log = self.logs.setdefault((task, attempt, piece["stream"]), bytearray())
        data = data_of(piece)
        if not log:
            log.extend(b"?" * piece["offset"])  # it may begin in the middle
        assert len(log) == piece["offset"], (len(log), piece)
        assert data, piece
        log.extend(data)

    def log(self, task: int, stream: str = "stdout", attempt: int = 1) -> bytes:
        """What came of one stream so far."""
        return bytes(self.logs.get((task, attempt, stream), b""))

    def lines(self) -> list[tuple[int, str, bytes]]:
        """Number, stream and text of each line in the order of their ends, as a screen has them."""
        found: list[tuple[int, str, bytes]] = []
        open_: dict[str, bytes] = {}
        for piece in self.pieces:
            stream = piece["stream"]
            *whole, rest = (open_.pop(stream, b"") + data_of(piece)).split(b"\n")
            found += ((number, stream, text) for number, text in enumerate(whole, piece["line"]))
            assert piece.get("open", False) == bool(rest), piece
            if rest:
                open_[stream] = rest
        assert not open_
        return found

    def named(self, name: str) -> list[Any]:
        """The data of all events of that name."""
        return [event.data for event in self.events if event.name == name]

    @property
    def pieces(self) -> list[dict[str, Any]]:
        """All pieces, in their order."""
        outputs = [output for outputs in self.named("output") for output in outputs]
        return [piece for output in outputs for piece in output["pieces"]]


@asynccontextmanager
async def watched(
    api: Api, path: str, headers: dict[str, str] | None = None
) -> AsyncIterator[Viewer]:
    """Watch in the background for as long as the block lasts."""
    viewer = Viewer(api, path, headers)
    task = asyncio.ensure_future(viewer.watch())
    try:
        yield viewer
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()
