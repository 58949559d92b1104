"""`GET /tasks/{id}/logs/live`: server-sent events."""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import ExitStack
from http import HTTPStatus
from typing import Annotated, Any

from litestar import Request, Response, get
from litestar.params import HeaderParameter, QueryParameter

from api import access, positions
from api.access import who_asks
from api.live import viewing
from api.live.tails import BOTH, Tail
from api.positions import BadPositionError, Position
from api.problems import ProblemError
from api.routes.described import answers
from api.routes.event_stream import EVENTS, EventStream
from api.routes.logs import OneStream
from api.routes.logs import Tail as TailLines
from api.routes.services import services
from api.routes.tasks import TaskId, no_task
from schema.tasks import Stream

LastEventId = Annotated[
    str | None,
    HeaderParameter(
        name="Last-Event-ID", description="Like `after`; browsers send it by themselves."
    ),
]
After = Annotated[
    str | None,
    QueryParameter(description="The `id` of an event: continue after it; not with `tail`."),
]


@get(
    "/tasks/{task_id:int}/logs/live",
    media_type=EVENTS,
    tags=["logs"],
    opt=access.READ,
    operation_class=answers("204 429"),
)
async def watch_task(
    request: Request[Any, Any, Any],
    task_id: TaskId,
    *,
    stream: OneStream = None,
    tail: TailLines = None,
    after: After = None,
    last_event_id: LastEventId = None,
) -> Response[Any]:
    """What the newest attempt wrote and what it and later ones write, until the task has ended.

    Events `status`, `attempt`, `output`, `log` and `end`, with JSON. 204 where the position says
    that all of it was told.
    """
    return await told(request, task_id, stream, tail, last_event_id or after)


Shown = Callable[[AsyncGenerator[bytes, None]], AsyncGenerator[bytes, None]]
"""Events as somebody sees them who does not read them as they are."""


async def told(
    request: Request[Any, Any, Any],
    task_id: int,
    stream: Stream | None,
    tail: int | None,
    text: str | None,
    *,
    shown: Shown = lambda events: events,
    headers: Mapping[str, str] | None = None,
) -> Response[Any]:
    """The events behind a position, or behind all but the last lines; 204 where all was told.

    A 4xx problem, or a 503. `headers`: more of them.
    """
    found = services(request)
    streams = BOTH if stream is None else (stream,)
    with ExitStack() as holding:
        over = holding.enter_context(found.audience.seat(who_asks(request)))
        watched = holding.enter_context(found.live.watching(task_id))
        if not await found.live.known(watched, freshly=True):
            raise no_task(task_id)
        begun = None
        if text:
            position = await _resumed(watched, text)
            if viewing.all_told(watched, position):
                return Response(None, status_code=HTTPStatus.NO_CONTENT, headers=headers)
        else:
            position, begun = await viewing.first_position(found.live, watched, tail, streams)
        events = shown(viewing.view(found.live, watched, position, begun, streams))
        return EventStream(events, over, holding.pop_all(), headers)


async def _resumed(watched: Tail, text: str) -> Position:
    try:
        position = positions.parse(text)
    except BadPositionError as error:
        raise ProblemError(HTTPStatus.BAD_REQUEST, str(error)) from None
    attempts = watched.seen.attempt if watched.seen else 0
    if position.attempt > attempts:
        raise ProblemError(
            HTTPStatus.BAD_REQUEST,
            f"{text!r} is not a position in task {watched.task}, which has {attempts} attempts",
        )
    if not await watched.gave(position):
        raise ProblemError(
            HTTPStatus.BAD_REQUEST,
            f"{text!r} is no position of task {watched.task}: it has not written so much",
        )
    return position


HANDLERS = [watch_task]
