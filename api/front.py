"""What every request meets first: the token, room for its body, and a short way for hot routes.

Litestar's layers cost 60 to 80 µs of processor time a request; the routes of agents at work
carry nearly all of the load, and of those layers they need nothing but the decoding and encoding
that their handlers do anyway. So the same handlers, which litestar knows and describes too, are
called from here.
"""

import asyncio
import hmac
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, cast

import msgspec
from litestar import Litestar, Request
from litestar.enums import ScopeType
from litestar.handlers import HTTPRouteHandler
from litestar.types import HTTPScope, Receive, Scope, Send

from api.problems import ProblemError, response_to

AnyRequest = Request[Any, Any, Any]
Handler = Callable[[AnyRequest], Awaitable[Any]]

_SMALL_BYTES = 65_536
"""Smaller bodies always pass: a beat or a result must not wait for somebody's logs."""

_WAIT_FOR_ROOM_S = 20.0
_OPEN_PATHS = frozenset({"/health/live", "/health/ready"})
_encode = msgspec.json.Encoder().encode
RawHeaders = Mapping[bytes, bytes]


class Exchange:
    """What a hot handler needs of a request; litestar's own makes more than that."""

    __slots__ = ("app", "receive", "scope")

    def __init__(self, app: Litestar, scope: HTTPScope, receive: Receive) -> None:
        self.app = app
        self.scope = scope
        self.receive = receive


class Front:
    """The ASGI application of one worker: a litestar application behind the guards."""

    def __init__(
        self,
        app: Litestar,
        hot: Sequence[HTTPRouteHandler],
        *,
        token: str | None,
        room: "Room",
    ) -> None:
        self.app = app
        self._hot: dict[tuple[str, str], tuple[Handler, int]] = {
            (method, path): (handler.fn, handler.status_code)
            for handler in hot
            for method in handler.http_methods
            for path in handler.paths
        }
        self._expected = None if token is None else f"Bearer {token}".encode()
        self._room = room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; problems that are found here are answered here."""
        if scope["type"] != ScopeType.HTTP:
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        try:
            self._check_token(scope, headers)
            size = self._room.size(headers)
            if size <= _SMALL_BYTES:
                await self._serve(scope, receive, send)
                return
            await self._room.enter(size)
            try:
                await self._serve(scope, receive, send)
            finally:
                self._room.leave(size)
        except Exception as error:  # noqa: BLE001 - litestar answers its own; these are from here
            scope["litestar_app"] = self.app
            request: Request[Any, Any, Any] = Request(scope, receive, send)
            response = response_to(request, error).to_asgi_response(None, request)
            await response(scope, receive, send)

    async def _serve(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        hot = self._hot.get((scope["method"], scope["path"]))
        if hot is None:
            await self.app(scope, receive, send)
            return
        handler, status = hot
        body = _encode(await handler(cast("AnyRequest", Exchange(self.app, scope, receive))))
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [
                    (b"content-type", b"application/json"),
                    (b"content-length", b"%d" % len(body)),
                ],
            }
        )
        await send({"type": "http.response.body", "body": body, "more_body": False})

    def _check_token(self, scope: HTTPScope, headers: RawHeaders) -> None:
        if self._expected is None or scope["path"] in _OPEN_PATHS:
            return
        brought = headers.get(b"authorization", b"")
        if not hmac.compare_digest(brought, self._expected):
            raise ProblemError(
                HTTPStatus.UNAUTHORIZED,
                "send the server's token as `Authorization: Bearer …` (TOKEN)",
            )


class Room:
    """How much the bodies of requests may hold of the process's memory.

    Sixty bodies of 15 MB in one moment took 1.3 GB. Counted from a request's first byte to its
    answer, at the size that it announces. Where there is no room, large ones wait, unread, in
    their order: agents of old lose what they are not allowed to send.
    """

    def __init__(self, most_bytes: int, most_of_one: int) -> None:
        self._most_bytes = most_bytes
        self._most_of_one = most_of_one
        self._held = 0
        self._line: deque[tuple[int, asyncio.Future[None]]] = deque()

    def size(self, headers: RawHeaders) -> int:
        """Bytes that the body may have.

        One that is compressed, or does not say its length, may be as large as any.
        """
        length = headers.get(b"content-length")
        if b"transfer-encoding" in headers or (length and b"content-encoding" in headers):
            return self._most_of_one
        return min(int(length), self._most_of_one) if length and length.isdigit() else 0

    async def enter(self, size: int) -> None:
        """Wait for room, which `leave` gives back. A 503 problem after some time."""
        if not self._line and self._fits(size):
            self._held += size
            return
        entered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append((size, entered))
        try:
            async with asyncio.timeout(_WAIT_FOR_ROOM_S):
                await entered
        except TimeoutError:
            if entered.done() and not entered.cancelled():
                self.leave(size)  # it was let in at that very moment
            raise ProblemError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "more large bodies arrive than there is room for; come back",
                retry_after_s=1,
            ) from None

    def leave(self, size: int) -> None:
        """The request is answered."""
        self._held -= size
        while self._line and (self._line[0][1].done() or self._fits(self._line[0][0])):
            wanted, entered = self._line.popleft()
            if not entered.done():
                self._held += wanted
                entered.set_result(None)

    def _fits(self, size: int) -> bool:
        return not self._held or self._held + size <= self._most_bytes
