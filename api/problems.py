"""Every error of the API as problem+json (RFC 9457).

HTTPException (litestar)
└── ProblemError         what handlers raise: status, title, detail, and when to come back
Exception
└── LogInFirstError      a browser that brings no cookie is led to the form that gives one
"""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.types import ExceptionHandlersMap

from api.batching import QueueFullError, StoppedError
from api.database import AWAY
from schema.problems import Problem

# Paths are taken from the scope and quoted: a URL made with a `Host` of a stranger may be none,
# and a newline in a path must not begin a line of the log.
_log = logging.getLogger(__name__)


class ProblemError(HTTPException):
    """Ends a request with a problem."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        *,
        retry_after_s: float | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail=detail, status_code=status, headers=headers)
        self.retry_after_s = retry_after_s


class LogInFirstError(Exception):
    """A page needs a token, and a browser asks for it."""

    def __init__(self, place: str) -> None:
        """`place`: path and query to come back to."""
        super().__init__(place)
        self.place = place


def not_found(what: str) -> ProblemError:
    """Nothing has that id or name."""
    return ProblemError(HTTPStatus.NOT_FOUND, what)


def _respond(
    status: int,
    detail: str,
    retry_after_s: float | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response[bytes]:
    problem = Problem(
        status=status, title=HTTPStatus(status).phrase, detail=detail, retry_after=retry_after_s
    )
    extra = dict(headers or {})
    if retry_after_s is not None:
        extra["Retry-After"] = str(max(1, round(retry_after_s)))
    return Response(
        msgspec.json.encode(problem), status_code=status, media_type="application/problem+json",
        headers=extra,
    )  # fmt: skip


def _http(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    retry_after_s = error.retry_after_s if isinstance(error, ProblemError) else None
    detail = error.detail
    if isinstance(error.extra, list):  # litestar's list of what is wrong with the parameters
        detail += "".join(f"; {each.get('key')}: {each.get('message')}" for each in error.extra)
    if error.status_code == HTTPStatus.NOT_FOUND and detail == "Not Found":
        detail = f"there is no {request.scope['path']}; the routes are described at /schema"
    return _respond(error.status_code, detail, retry_after_s, error.headers)


def _database_away(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    _log.warning("%s %r: no database: %r", request.method, request.scope["path"], error)
    return _respond(503, "the database cannot be reached now; nothing was lost, retry later", 1.0)


def _full(_: Request[Any, Any, Any], _error: Exception) -> Response[bytes]:
    detail = "too much is waiting for the database (of reports: MAX_QUEUE_BYTES); retry later"
    return _respond(503, detail, 1.0)


def _stopped(_: Request[Any, Any, Any], _error: Exception) -> Response[bytes]:
    return _respond(503, "this server is stopping; retry", 1.0)


def _log_in(_: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    assert isinstance(error, LogInFirstError)
    headers = {
        "Location": f"/login?next={quote(error.place, safe='')}",
        "Cache-Control": "no-store",
    }
    return Response(b"", status_code=HTTPStatus.SEE_OTHER, headers=headers)


def _bug(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    _log.error("%s %r failed", request.method, request.scope["path"], exc_info=error)
    return _respond(500, "an internal error; the server has logged it")


def response_to(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """The answer to an error that is raised outside litestar."""
    handler = next(HANDLERS[kind] for kind in type(error).__mro__ if kind in HANDLERS)
    return handler(request, error)


HANDLERS: ExceptionHandlersMap = {
    HTTPException: _http,
    QueueFullError: _full,
    StoppedError: _stopped,
    LogInFirstError: _log_in,
    Exception: _bug,
    **dict.fromkeys(AWAY, _database_away),
}
