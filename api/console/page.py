"""What all pages have in common: who looks, problems, and their own news.

A page that is asked for as `text/event-stream` tells its main part again whenever that changed, as
one event with HTML. The browser puts what is new into its place.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import ExitStack
from typing import Any

import msgspec
from litestar import MediaType, Request, Response
from litestar.exceptions import NotFoundException
from litestar.response import Template
from litestar.types import ExceptionHandlersMap

from api import cookies
from api.access import NOBODY, who_asks
from api.console.headers import PAGE, SAFE, wants_events, wants_page
from api.database import AWAY
from api.live import events
from api.live.sharing import Shared
from api.problems import HANDLERS, ProblemError, response_to
from api.routes.event_stream import EventStream
from api.routes.services import services
from schema.problems import Problem
from schema.tokens import Role

AnyRequest = Request[Any, Any, Any]
Collect = Callable[[], Awaitable[dict[str, Any]]]
"""Gets what a template shows, as it is now."""

LOOK_S = 2.0
"""Between two looks for one who watches a page."""

_AT_ONCE = 2
"""Looks for all who watch pages of one process; those at the same page share one."""

_PAUSES = 10
"""As many times as long as a look took: five million pending tasks take a second to count."""

_KEEP_ALIVE_S = 15.0
_LIFE_S = 60.0
"""Of one stream of news: the browser comes back, and has to show its cookie again."""

_MAY_SUBMIT: frozenset[Role] = frozenset({"submit", "admin"})


def about(request: AnyRequest) -> dict[str, Any]:
    """Who looks, and what he may do. On a page that is open to all it is nobody."""
    who = request.scope.get("user", None)
    if who is None:
        return {"who": None}
    # As it was sent: a URL made with a `Host` of a stranger may be none.
    query = request.scope["query_string"].decode("latin-1")
    # Not by `request.cookies`, which is as slow as `http.cookies`: see `api.cookies.read`.
    login = cookies.read(request.headers.get("cookie", "").encode("latin-1"))
    return {
        "who": who.name,
        "role": who.role,
        "may_submit": who.role in _MAY_SUBMIT,
        "may_admin": who.role == "admin",
        "logged_in": who is not NOBODY and login is not None,
        "here": request.scope["path"] + (f"?{query}" if query else ""),
    }


async def show(
    request: AnyRequest, template: str, collect: Collect, look_s: float = LOOK_S
) -> Response[Any]:
    """A page; or its news, with so many seconds between two looks."""
    if wants_events(request.headers):
        with ExitStack() as holding:
            over = holding.enter_context(services(request).audience.seat(who_asks(request)))
            news = _news(request, template, collect, look_s)
            return EventStream(news, over, holding.pop_all(), SAFE)
    context = about(request) | {"news": False} | await collect()
    return Template(template, context=context, headers=PAGE, media_type=MediaType.HTML)


async def _news(
    request: AnyRequest, name: str, collect: Collect, look_s: float
) -> AsyncGenerator[bytes, None]:
    engine = request.app.template_engine
    assert engine is not None
    template = engine.get_template(name)
    base = about(request) | {"request": request, "news": True}
    shared: Shared[str] = request.app.state.setdefault("news", Shared(lambda _: 0, 0, _AT_ONCE))

    async def render() -> str:
        html: str = template.render(base | await collect())
        return html

    loop = asyncio.get_running_loop()
    until = loop.time() + _LIFE_S
    told, told_at = "", loop.time()
    yield events.HELLO
    while (began := loop.time()) < until:
        html = told
        try:
            html = await shared.once((base["here"], base["role"]), render) or told
        except AWAY:
            pass  # what is shown stays until the database is back
        except ProblemError:
            return
        if html != told:
            told, told_at = html, loop.time()
            yield events.event("page", html)
        elif loop.time() - told_at > _KEEP_ALIVE_S:
            told_at = loop.time()
            yield events.KEEP_ALIVE
        await asyncio.sleep(max(look_s, _PAUSES * (loop.time() - began)))


def problem(request: AnyRequest, error: Exception) -> Response[Any]:
    """An error as a page for a browser, as problem+json for others."""
    response = response_to(request, error)
    if not wants_page(request.headers) or not response.content:
        response.headers |= SAFE
        return response
    told = msgspec.json.decode(response.content, type=Problem)
    headers = {name: value for name, value in response.headers.items() if name == "Retry-After"}
    return Template(
        "problem.html", context=about(request) | {"news": False, "problem": told},
        status_code=told.status, headers=PAGE | headers, media_type=MediaType.HTML,
    )  # fmt: skip


PROBLEMS: ExceptionHandlersMap = dict.fromkeys(HANDLERS, problem)
"""For the router of the console: each kind of error that the API knows."""

UNKNOWN: ExceptionHandlersMap = {NotFoundException: problem}
"""For the application: a path that leads nowhere, which a browser may have been sent to."""
