"""Who may talk to the API."""

import hmac
from http import HTTPStatus

from litestar.datastructures import Headers
from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Scope, Send

from api.problems import ProblemError

_OPEN_PATHS = frozenset({"/health/live", "/health/ready"})


class TokenMiddleware(ASGIMiddleware):
    """Lets requests pass that bring the token as `Authorization: Bearer …`, else a 401."""

    scopes = (ScopeType.HTTP,)

    def __init__(self, token: str) -> None:
        self._expected = f"Bearer {token}".encode()

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Compare in constant time."""
        brought = Headers.from_scope(scope).get("authorization", "").encode("latin-1", "replace")
        if scope["path"] not in _OPEN_PATHS and not hmac.compare_digest(brought, self._expected):
            raise ProblemError(
                HTTPStatus.UNAUTHORIZED,
                "send the server's token as `Authorization: Bearer …` (TOKEN)",
            )
        await next_app(scope, receive, send)
