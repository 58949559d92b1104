"""What every request meets first: the token, room for its body, and a short way for hot routes.

Litestar's layers cost 60 to 80 µs of processor time a request; the routes of agents at work
carry nearly all of the load, and of those layers they need nothing but the decoding and encoding
that their handlers do anyway. So the same handlers, which litestar knows and describes too, are
called from here.
"""

from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple, cast

import msgspec
from litestar import Litestar, Request
from litestar.enums import ScopeType
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler
from litestar.types import HTTPScope, Receive, Scope, Send
from litestar.utils import normalize_path

from api import access, paths, targets
from api.access import Access, Who
from api.gate import Gate, take_from_path
from api.metrics import DENIED
from api.problems import LogInFirstError, ProblemError, response_to
from api.room import SMALL_BYTES, RawHeaders, Room, keep_in

AnyRequest = Request[Any, Any, Any]
Handler = Callable[[AnyRequest], Awaitable[Any]]

_encode = msgspec.json.Encoder().encode


def _is_browser(headers: RawHeaders) -> bool:
    """Tell somebody who wants to see a page, and brought no token, from a program."""
    return b"authorization" not in headers and b"text/html" in headers.get(b"accept", b"")


class Exchange:
    """What a hot handler needs of a request; litestar's own makes more than that."""

    __slots__ = ("app", "receive", "scope")

    def __init__(self, app: Litestar, scope: HTTPScope, receive: Receive) -> None:
        self.app = app
        self.scope = scope
        self.receive = receive


class _Hot(NamedTuple):
    handler: Handler
    status: int
    access: Access


class Front:
    """The ASGI application of one worker: a litestar application behind the guards."""

    def __init__(
        self, app: Litestar, hot: Sequence[HTTPRouteHandler], *, room: Room, most_requests: int
    ) -> None:
        self.app = app
        self.gate: Gate | None = None
        """Set when the worker has started: before that it serves nobody."""
        self._hot: dict[tuple[str, str], _Hot] = {
            (method, path): _Hot(handler.fn, handler.status_code, access.access_of(handler))
            for handler in hot
            for method in handler.http_methods
            for path in handler.paths
        }
        self._open = access.open_routes(app.routes)
        self._room = room
        self._most_requests = most_requests
        self._requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; problems that are found here are answered here."""
        if scope["type"] != ScopeType.HTTP:
            await self.app(scope, receive, send)
            return
        in_path = take_from_path(scope)
        scope["path"] = paths.routed(scope["path"], scope.get("raw_path") or b"")
        place = (scope["method"], scope["path"])
        if place in self._open:
            await self.app(scope, receive, send)
            return
        self._requests += 1
        try:
            self._check_room_for_one()
            targets.check_path(scope)
            headers = dict(scope["headers"])
            assert self.gate is not None, "the worker has not started"
            who = self.gate.known(headers) or await self._identify(scope, headers, in_path)
            scope["user"] = who
            hot = self._hot.get(place)
            if hot is not None:
                hot.access.check(who, in_path=in_path is not None)
            size = self._room.size(headers)
            if size <= SMALL_BYTES:
                await self._serve(hot, scope, receive, send)
                return
            room = await self._room.enter(size)
            keep_in(scope, room)
            try:
                await self._serve(hot, scope, receive, send)
            finally:
                room.leave()
        except Exception as error:  # noqa: BLE001 - litestar answers its own; these are from here
            scope["litestar_app"] = self.app
            request: Request[Any, Any, Any] = Request(scope, receive, send)
            response = response_to(request, error).to_asgi_response(None, request)
            await response(scope, receive, send)
        finally:
            self._requests -= 1

    def _check_room_for_one(self) -> None:
        if self._requests > self._most_requests:
            raise ProblemError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"more than {self._most_requests} requests are in progress in this worker"
                " (MAX_REQUESTS); retry later",
                retry_after_s=1,
            )

    async def _identify(self, scope: HTTPScope, headers: RawHeaders, in_path: bytes | None) -> Who:
        """Who asks, where memory alone does not tell; 401 if nobody known."""
        assert self.gate is not None, "the worker has not started"
        who = await self.gate.find(scope["method"], headers, in_path)
        if who is None:
            raise self._unknown(scope, headers)
        return who

    def _unknown(self, scope: HTTPScope, headers: RawHeaders) -> Exception:
        """401, and which role would do, where there is such a route; a browser may log in."""
        method, path = scope["method"], scope["path"]
        try:
            _, handler, *_ = self.app.asgi_router.handle_routing(
                path=normalize_path(path), method=cast("Any", method)
            )
            roles = access.access_of(handler).roles
        except (HTTPException, KeyError):
            roles = ()
        else:
            if method == "GET" and access.is_page(handler) and _is_browser(headers):
                query = scope["query_string"].decode("latin-1")
                return LogInFirstError(path + (f"?{query}" if query else ""))
        needed = f" with the role {access.one_of(roles)}" if roles else ""
        DENIED.labels("401").inc()
        return ProblemError(
            HTTPStatus.UNAUTHORIZED,
            f"this needs a token{needed}: send a valid one as `Authorization: Bearer …` (TOKEN)",
            headers={"WWW-Authenticate": "Bearer"},
        )

    async def _serve(
        self, hot: _Hot | None, scope: HTTPScope, receive: Receive, send: Send
    ) -> None:
        if hot is None:
            forget = targets.check_query(scope)
            try:
                await self.app(scope, receive, send)
            finally:
                if forget:
                    targets.forget_queries()
            return
        body = _encode(await hot.handler(cast("AnyRequest", Exchange(self.app, scope, receive))))
        await send(
            {
                "type": "http.response.start",
                "status": hot.status,
                "headers": [
                    (b"content-type", b"application/json"),
                    (b"content-length", b"%d" % len(body)),
                ],
            }
        )
        await send({"type": "http.response.body", "body": body, "more_body": False})
