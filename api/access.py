"""Who asks, and what each route asks of them.

Every route names its access beside its path, `@get("/tasks", opt=access.READ)`; an application
with a route that names none does not start. Hot routes are checked by `api.front`, the others
by `guard`, which litestar calls with the handler that it has chosen.
"""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.routes import BaseRoute, HTTPRoute
from litestar.types import Scope
from msgspec import Struct

from api.metrics import DENIED
from api.problems import ProblemError
from schema.tokens import Role

_KEY = "access"
_BROWSER = "browser"


class Who:
    """Somebody who asks: a token that lives, as this process knows it."""

    __slots__ = ("digest", "name", "number", "parked", "reads", "ref", "revoked", "role", "used")

    def __init__(
        self, name: str, role: Role, *, ref: str, digest: bytes = b"", number: int | None = None
    ) -> None:
        self.name = name
        """As the audit has it."""
        self.role = role
        self.ref = ref
        """Short, unique, and no secret: a cookie names its token by it."""
        self.digest = digest
        self.number = number
        """Row; None where the token is not in the table."""
        self.parked = 0
        """Requests that wait for something to happen."""
        self.reads = 0
        """Logs that it reads."""
        self.used = False
        """Since it was last written down."""
        self.revoked = False

    def check_lives(self) -> None:
        """Refuse (401) whose token has ended since the request began: that may take two minutes."""
        if self.revoked:
            DENIED.labels("401").inc()
            raise ProblemError(
                HTTPStatus.UNAUTHORIZED,
                f"the token {self.name} was revoked while this request arrived",
                headers={"WWW-Authenticate": "Bearer"},
            )

    @property
    def token(self) -> str | None:
        """The name that its sessions are bound to; None where no token was asked for."""
        return self.name if self.digest else None


NOBODY: Final = Who("loopback without tokens", "admin", ref="")
"""Whoever asks a server that has no tokens and listens on loopback only."""


class Access(Struct, frozen=True):
    """Whom a route serves."""

    roles: tuple[Role, ...]
    """None: anybody, also without a token."""
    in_path: bool = False
    """Legacy agents, who know a base URL and nothing else, may have their token in the path."""

    def check(self, who: Who, *, in_path: bool) -> None:
        """Refuse (403) who has another role, and tokens in paths where a header can be sent."""
        who.check_lives()
        if who.role not in self.roles:
            DENIED.labels("403").inc()
            raise ProblemError(
                HTTPStatus.FORBIDDEN,
                f"this needs a token with the role {one_of(self.roles)};"
                f" {who.name} has the role {who.role}",
            )
        if in_path and who is not NOBODY and not (self.in_path and who.role == "agent"):
            DENIED.labels("403").inc()
            raise ProblemError(
                HTTPStatus.FORBIDDEN,
                "a token in the path is accepted from legacy agents only, with the role agent and"
                " on their routes: send others as `Authorization: Bearer …`",
            )


def one_of(roles: Iterable[Role]) -> str:
    """Write roles as a person would."""
    *first, last = roles
    return f"{', '.join(first)} or {last}" if first else last


def _asks(*roles: Role, in_path: bool = False) -> dict[str, Any]:
    return {_KEY: Access(roles, in_path)}


OPEN: Final = _asks()
READ: Final = _asks("read", "submit", "admin")
SUBMIT: Final = _asks("submit", "admin")
AGENT: Final = _asks("agent", "admin")
COMPATIBLE: Final = _asks("agent", "admin", in_path=True)
ADMIN: Final = _asks("admin")
PAGE: Final = READ | {_BROWSER: True}
"""A page: a browser that brings nothing is led to the form that gives it a cookie."""
HOME: Final = _asks("read", "submit", "agent", "admin", in_path=True) | {_BROWSER: True}


def access_of(handler: BaseRouteHandler) -> Access:
    """What was named beside the route."""
    found: Access = handler.opt[_KEY]
    return found


def is_page(handler: BaseRouteHandler) -> bool:
    """Tell whether browsers show what it gives."""
    return _BROWSER in handler.opt


def open_routes(routes: Iterable[BaseRoute]) -> frozenset[tuple[str, str]]:
    """(method, path) of those that ask for no token; RuntimeError for one that names no access."""
    found = set()
    for route in routes:
        assert isinstance(route, HTTPRoute)
        for handler in route.route_handlers:
            if _options(handler):
                continue
            if _KEY not in handler.opt:
                raise RuntimeError(
                    f"{handler} at {route.path} does not declare who may call it: opt=…"
                )
            if not access_of(handler).roles:
                found |= {(method, route.path) for method in handler.http_methods}
    return frozenset(found)


def _options(handler: BaseRouteHandler) -> bool:
    """Tell what litestar itself adds to each path: it names the methods there, to any token."""
    return isinstance(handler, HTTPRouteHandler) and handler.http_methods == {"OPTIONS"}


async def guard(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Check the route that litestar has chosen."""
    if not _options(handler) and (access := access_of(handler)).roles:
        access.check(who_in(connection.scope), in_path="token_in_path" in connection.scope)


def who_in(scope: Scope) -> Who:
    """Whoever `api.front` has let in."""
    found: Who = scope["user"]
    return found


def who_asks(request: Request[Any, Any, Any]) -> Who:
    """Whoever `api.front` has let in."""
    return who_in(request.scope)
