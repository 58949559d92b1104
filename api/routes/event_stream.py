"""Server-sent events as an answer that ends with its client, its token or the server."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import ExitStack, aclosing
from typing import Any

from litestar import Request, Response
from litestar.response.base import ASGIResponse
from litestar.types import HTTPResponseBodyEvent, Receive, Scope, Send

from api.live.audience import Over
from api.routes.services import until_gone

EVENTS = "text/event-stream"
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would collect events
}


class EventStream(Response[None]):
    """Sends events until there are no more, or it must end."""

    def __init__(
        self,
        events: AsyncGenerator[bytes, None],
        over: Over,
        holding: ExitStack,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`holding` is let go of at the end: the seat, and what is watched from it.

        `headers`: more of them.
        """
        all_headers = {**_HEADERS, **(headers or {})}
        super().__init__(None, headers=all_headers, media_type=EVENTS)
        self._sending = (events, over, holding, all_headers)

    def to_asgi_response(
        self, app: object, request: Request[Any, Any, Any], **more: Any
    ) -> ASGIResponse:
        """What litestar calls, with headers and the like of which the routes have none."""
        del app, request, more
        return _Sending(*self._sending)


class _Sending(ASGIResponse):
    __slots__ = ("_events", "_holding", "_over")

    _should_set_content_length = False

    def __init__(
        self,
        events: AsyncGenerator[bytes, None],
        over: Over,
        holding: ExitStack,
        headers: dict[str, str],
    ) -> None:
        super().__init__(headers=headers, media_type=EVENTS)
        self._events = events
        self._over = over
        self._holding = holding

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._holding:
            async with aclosing(self._events):
                await super().__call__(scope, receive, send)

    async def send_body(self, send: Send, receive: Receive) -> None:
        """Send one event after the other, at the client's own pace."""
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(self._send_all(send))
            gone = group.create_task(until_gone(receive))
            # It may wait for a client that does not read, or for the database: it is cut there.
            await asyncio.wait([sending, gone, self._over], return_when=asyncio.FIRST_COMPLETED)
            sending.cancel()
            gone.cancel()
        await send(_body(b"", more=False))

    async def _send_all(self, send: Send) -> None:
        async for event in self._events:
            await send(_body(event, more=True))


def _body(data: bytes, *, more: bool) -> HTTPResponseBodyEvent:
    return {"type": "http.response.body", "body": data, "more_body": more}
