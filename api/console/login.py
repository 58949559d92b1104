"""A browser's way in: a form with a token gives a cookie, see `api.cookies`."""

import time
from http import HTTPStatus
from typing import Annotated, Any

from litestar import MediaType, Request, Response, get, post
from litestar.params import QueryParameter
from litestar.response import Template

from api import access, cookies
from api.access import Who, one_of, who_asks
from api.console import forms
from api.console.headers import PAGE, wants_page
from api.console.places import inside
from api.problems import ProblemError
from api.routes.described import FORM, answers, body
from api.routes.services import services
from api.store import audit as store
from schema.tokens import Login, Role

_MOST_BYTES = 4096
_PEOPLE: tuple[Role, ...] = ("read", "submit", "admin")


@get("/login", include_in_schema=False, opt=access.OPEN)
async def form(
    request: Request[Any, Any, Any],
    following: Annotated[str, QueryParameter(name="next", max_length=4000)] = "",
) -> Response[Any]:
    """Ask for a token; where none is needed, lead on."""
    if services(request).tokens.none:
        return Response(None, status_code=303, headers=PAGE | {"Location": inside(following)})
    return _form(following)


def _form(following: str, wrong: str = "", status: int = 200) -> Template:
    context = {"next": inside(following), "wrong": wrong, "news": False, "who": None}
    return Template(
        "login.html", context=context, headers=PAGE, status_code=status, media_type=MediaType.HTML
    )


@get("/console/me", include_in_schema=False, opt=access.READ)
async def me(request: Request[Any, Any, Any]) -> Response[dict[str, str]]:
    """Who asks: a page that was opened from another site learns here that there is a cookie.

    Browsers keep it back on the way from there (SameSite=Strict), and send it to this.
    """
    who = who_asks(request)
    return Response({"name": who.name, "role": who.role}, headers=PAGE)


@post("/login", status_code=303, tags=["tokens"], opt=access.OPEN,
      operation_class=body(Login, {"token": "dw_…"}, FORM, problems="401 403 503"))  # fmt: skip
async def login(request: Request[Any, Any, Any]) -> Response[Any]:
    """Give a cookie for a token, for twelve hours, and lead to the first page, or to `next`."""
    found = services(request)
    headers = dict(request.scope["headers"])
    _from_here(headers)
    sent = await forms.read(request, _MOST_BYTES)
    try:
        who = await _who(request, sent.get("token", "").strip())
    except ProblemError as error:
        if not wants_page(request.headers):
            raise
        return _form(sent.get("next", ""), error.detail, error.status_code)
    async with found.database.acquire() as connection:
        await store.add_entry(connection, who.name, "logged in")
    text = cookies.seal(found.lease_key, who.ref, who.digest, int(time.time()) + cookies.LIFE_S)
    return _lead_to(request, sent.get("next", ""), text, cookies.LIFE_S)


async def _who(request: Request[Any, Any, Any], token: str) -> Who:
    """Whose token it is; a 4xx problem where nobody may log in with it."""
    who = await services(request).tokens.find(token.encode())
    if who is None:
        raise ProblemError(HTTPStatus.UNAUTHORIZED, "the form's `token` is not valid")
    if who.role not in _PEOPLE:
        raise ProblemError(
            HTTPStatus.FORBIDDEN,
            f"logging in needs a token with the role {one_of(_PEOPLE)};"
            f" {who.name} has the role {who.role}",
        )
    return who


@post("/logout", status_code=303, tags=["tokens"], opt=access.OPEN, operation_class=answers("403"))
async def logout(request: Request[Any, Any, Any]) -> Response[None]:
    """Take the cookie back. A copy of it lives on until its time is over or its token revoked."""
    _from_here(dict(request.scope["headers"]))
    return _lead_to(request, "/", "", 0)


def _from_here(headers: dict[bytes, bytes]) -> None:
    """Others' pages must log nobody in as somebody else, nor out."""
    if b"origin" in headers and not cookies.same_origin(headers):
        raise ProblemError(HTTPStatus.FORBIDDEN, "this form comes from another site")


def _lead_to(
    request: Request[Any, Any, Any], place: str, cookie: str, life_s: int
) -> Response[None]:
    secure = (
        request.scope["scheme"] == "https" or request.headers.get("x-forwarded-proto") == "https"
    )
    return Response(
        None,
        headers=PAGE
        | {
            "Location": inside(place),
            "Set-Cookie": cookies.set_cookie(cookie, life_s, secure=secure),
        },
    )


HANDLERS = [form, me, login, logout]
"""`POST /login` and `/logout` are described with the routes; pages are not."""
