"""Health and metrics."""

import logging
from http import HTTPStatus
from typing import Any

from litestar import MediaType, Request, Response, get

from api import access
from api.metrics import MEDIA_TYPE, exposition
from api.problems import ProblemError
from api.routes.described import answers
from api.routes.services import services
from api.store import tasks as store

_log = logging.getLogger(__name__)

_READY_S = 1.0


@get("/health/live", media_type=MediaType.TEXT, tags=["operation"], opt=access.OPEN)
async def live() -> str:
    """Answer while the process does."""
    return "ok\n"


@get(
    "/health/ready",
    media_type=MediaType.TEXT,
    tags=["operation"],
    opt=access.OPEN,
    operation_class=answers("503"),
)
async def ready(request: Request[Any, Any, Any]) -> str:
    """Answer 200 when the database does within a second, else 503."""
    try:
        await services(request).database.check(_READY_S)
    except Exception as error:
        _log.warning("not ready, the database does not answer: %r", error)
        raise ProblemError(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "the database does not answer; the server's log says why",
            retry_after_s=1,
        ) from error
    return "ok\n"


@get("/metrics", media_type=MediaType.TEXT, tags=["operation"], opt=access.READ)
async def metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
    """For Prometheus: counters of all workers, and the queue as it is now."""
    async with services(request).database.reading() as connection:
        depth = await store.queue_depth(connection)
    return Response(exposition(depth), media_type=MEDIA_TYPE)


HANDLERS = [live, ready, metrics]
