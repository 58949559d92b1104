"""How much the bodies of requests may hold of a process's memory."""

from http import HTTPStatus

from litestar.datastructures import Headers
from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Scope, Send

from api.problems import ProblemError

SMALL_BYTES = 65_536
"""Smaller bodies always pass: a beat or a result must not wait for somebody's logs."""

_BODILESS = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})


class BodiesMiddleware(ASGIMiddleware):
    """Lets in as many large bodies as there is room for; the others are told to come back.

    Sixty bodies of 15 MB in one moment took 1.3 GB. Counted from a request's first byte to its
    answer, at the size that it announces.
    """

    scopes = (ScopeType.HTTP,)

    def __init__(self, most_bytes: int, most_of_one: int) -> None:
        self._most_bytes = most_bytes
        self._most_of_one = most_of_one
        self._held = 0

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Count the body, if it is large, for as long as the request lasts."""
        bodiless = scope.get("method") in _BODILESS
        size = 0 if bodiless else self._size(Headers.from_scope(scope))
        if size <= SMALL_BYTES:
            await next_app(scope, receive, send)
            return
        if self._held and self._held + size > self._most_bytes:
            raise ProblemError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "more large bodies arrive than there is room for; come back",
                retry_after_s=1,
            )
        self._held += size
        try:
            await next_app(scope, receive, send)
        finally:
            self._held -= size

    def _size(self, headers: Headers) -> int:
        """A body that is compressed, or does not say its length, may be as large as any."""
        length = headers.get("content-length", "")
        if headers.get("content-encoding") or "transfer-encoding" in headers:
            return self._most_of_one
        return min(int(length), self._most_of_one) if length.isdecimal() else 0
