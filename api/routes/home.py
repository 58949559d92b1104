"""`GET /`, health, metrics."""

import asyncio
import html
from http import HTTPStatus
from typing import Any

from litestar import MediaType, Request, Response, get

from api import access
from api.metrics import MEDIA_TYPE, exposition
from api.problems import ProblemError
from api.routes.services import services
from api.store import tasks as store

_READY_S = 1.0
_LINE = "distributed-worker: hand over tasks with `dw submit`, see /schema for the routes\n"
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>distributed-worker</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:3rem auto;padding:0 1rem}
:root{color-scheme:light dark}code{font-family:ui-monospace,monospace}</style>
<h1>distributed-worker</h1>
<p>%s</p>
<ul>
<li><a href="/tasks">Tasks</a> and <a href="/agents">agents</a>, as JSON
<li><a href="/schema/openapi.json">The routes</a>, as an OpenAPI document
<li><a href="/health/ready">Health</a> and <a href="/metrics">metrics</a>
</ul>
<p>Hand over a task: <code>dw submit -- echo hello</code>
"""


@get("/", media_type=MediaType.TEXT, tags=["operation"], opt=access.HOME)
async def home(request: Request[Any, Any, Any]) -> Response[str]:
    """Answer a page to a browser, a line of text to all others."""
    if "text/html" not in request.headers.get("accept", ""):
        return Response(_LINE, media_type=MediaType.TEXT)
    async with services(request).database.reading() as connection:
        depth = await store.queue_depth(connection)
    now = ", ".join(f"{count} {status}" for status, count in sorted(depth.items()))
    return Response(_PAGE % html.escape(now or "Nothing to do."), media_type=MediaType.HTML)


@get("/health/live", media_type=MediaType.TEXT, tags=["operation"], opt=access.OPEN)
async def live() -> str:
    """Answer while the process does."""
    return "ok\n"


@get("/health/ready", media_type=MediaType.TEXT, tags=["operation"], opt=access.OPEN)
async def ready(request: Request[Any, Any, Any]) -> str:
    """Answer 200 when the database does within a second, else 503."""
    try:
        async with asyncio.timeout(_READY_S), services(request).database.acquire() as connection:
            await connection.fetchval("SELECT 1")
    except Exception as error:
        raise ProblemError(
            HTTPStatus.SERVICE_UNAVAILABLE,
            f"the database does not answer: {error!r}",
            retry_after_s=1,
        ) from error
    return "ok\n"


@get("/metrics", media_type=MediaType.TEXT, tags=["operation"], opt=access.READ)
async def metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
    """For Prometheus: counters of all workers, and the queue as it is now."""
    async with services(request).database.reading() as connection:
        depth = await store.queue_depth(connection)
    return Response(exposition(depth), media_type=MEDIA_TYPE)


HANDLERS = [home, live, ready, metrics]
