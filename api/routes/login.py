"""A browser's way in: a form with a token gives a cookie, see `api.cookies`."""

import time
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

from litestar import Request, Response, post

from api import access, bodies, cookies
from api.access import one_of
from api.problems import ProblemError
from api.routes.described import FORM, body
from api.routes.services import services
from api.store import audit as store
from schema.tokens import Login, Role

_MOST_BYTES = 4096
_PEOPLE: tuple[Role, ...] = ("read", "submit", "admin")


@post("/login", status_code=303, tags=["tokens"], opt=access.OPEN,
      operation_class=body(Login, {"token": "dw_…"}, FORM))  # fmt: skip
async def login(request: Request[Any, Any, Any]) -> Response[None]:
    """Give a cookie for a token, for twelve hours, and lead to the first page."""
    found = services(request)
    headers = dict(request.scope["headers"])
    _from_here(headers)
    sent = parse_qs(
        (await bodies.read(request, _MOST_BYTES, setting="")).decode("utf-8", "replace")
    )
    token = sent.get("token", [""])[0].strip()
    who = await found.tokens.find(token.encode())
    if who is None:
        raise ProblemError(HTTPStatus.UNAUTHORIZED, "the form's `token` is none that is in force")
    if who.role not in _PEOPLE:
        raise ProblemError(
            HTTPStatus.FORBIDDEN,
            f"logging in needs a token with the role {one_of(_PEOPLE)};"
            f" {who.name} has the role {who.role}",
        )
    async with found.database.acquire() as connection:
        await store.add_entry(connection, who.name, "logged in")
    text = cookies.seal(found.lease_key, who.ref, who.digest, int(time.time()) + cookies.LIFE_S)
    return _to_first_page(headers, request.scope["scheme"], text, cookies.LIFE_S)


@post("/logout", status_code=303, tags=["tokens"], opt=access.OPEN)
async def logout(request: Request[Any, Any, Any]) -> Response[None]:
    """Take the cookie back. A copy of it lives on until its time is over or its token revoked."""
    headers = dict(request.scope["headers"])
    _from_here(headers)
    return _to_first_page(headers, request.scope["scheme"], "", 0)


def _from_here(headers: dict[bytes, bytes]) -> None:
    """Others' pages must log nobody in as somebody else, nor out."""
    if b"origin" in headers and not cookies.same_origin(headers):
        raise ProblemError(HTTPStatus.FORBIDDEN, "this form belongs to another site")


def _to_first_page(
    headers: dict[bytes, bytes], scheme: str, cookie: str, life_s: int
) -> Response[None]:
    secure = scheme == "https" or headers.get(b"x-forwarded-proto") == b"https"
    return Response(
        None,
        headers={
            "Location": "/",
            "Set-Cookie": cookies.set_cookie(cookie, life_s, secure=secure),
            "Cache-Control": "no-store",
        },
    )


HANDLERS = [login, logout]
