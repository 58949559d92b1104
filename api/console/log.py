"""What a page asks for to show a log: rows, where something stands, and what comes."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial
from typing import Annotated, Any, TypeVar

from litestar import Request, Response, get
from litestar.params import FromQuery, QueryParameter
from msgspec import Struct

from api import access, positions
from api.console.headers import EVENTS, SAFE
from api.console.painter import Painter, before_open
from api.console.rows import Row, is_dear, row
from api.reading import View
from api.routes.live import After, LastEventId, told
from api.routes.logs import (
    AttemptNumber,
    IgnoreCase,
    Line,
    OneStream,
    Wildcards,
    page_of,
    wanted,
)
from api.routes.services import services
from api.routes.tasks import TaskId
from schema.tasks import LogState

T = TypeVar("T")

_ESCAPE = b"\\u001b"  # as JSON has it
_MOST_ROWS = 1000
_MOST_HITS = 5000


class RowPage(Struct, frozen=True):
    """Rows with numbers that follow one another."""

    attempt: int
    state: LogState
    total: int
    """Lines that are over."""
    first: int
    """Number of the first row."""
    rows: list[Row]
    after: str | None
    """Where the news go on: if this is the end of what is stored."""


class Hits(Struct, frozen=True):
    """Where something stands."""

    lines: list[int]
    next: int | None
    """Line to go on searching from; null: that is all."""
    total: int


@get("/console/tasks/{task_id:int}/rows", opt=access.READ)
async def read_rows(
    request: Request[Any, Any, Any],
    task_id: TaskId,
    *,
    attempt: AttemptNumber = None,
    stream: OneStream = None,
    line: Line = 1,
    lines: Annotated[int, QueryParameter(ge=1, le=_MOST_ROWS)] = 500,
    tail: FromQuery[bool] = False,
) -> Response[RowPage]:
    """Rows from a line on, or the last ones. Lines that are not over come with the news."""
    view = View(tail=lines, numbers=True) if tail else View(line=line, lines=lines, numbers=True)
    page = await page_of(services(request), task_id, attempt, stream, view)
    over = [each for each in page.lines if not each.open]
    after, total = page.after, page.total
    if after is not None:
        position = positions.parse(after)
        total = position.lines
        opened = {each.stream: each.offset for each in page.lines if each.open}
        after = str(before_open(position, opened))
    escapes = sum(each.text.count("\x1b") for each in over)
    painted = await _beside(escapes, lambda: [row(each) for each in over])
    rows = RowPage(
        attempt=page.attempt, state=page.state, total=total,
        first=over[0].line if over else total + 1, rows=painted, after=after,
    )  # fmt: skip
    return Response(rows, headers=_HEADERS)


@get("/console/tasks/{task_id:int}/find", opt=access.READ)
async def find(
    request: Request[Any, Any, Any],
    task_id: TaskId,
    *,
    grep: Annotated[str, QueryParameter(min_length=1, max_length=1000)],
    attempt: AttemptNumber = None,
    stream: OneStream = None,
    line: Line = 1,
    wildcards: Wildcards = False,
    ignore_case: IgnoreCase = False,
) -> Response[Hits]:
    """Numbers of lines that have a text, as many as two seconds bring."""
    pattern = wanted(grep, wildcards=wildcards, ignore_case=ignore_case)
    view = View(line=line, lines=_MOST_HITS, pattern=pattern, numbers=True)
    page = await page_of(services(request), task_id, attempt, stream, view)
    return Response(
        Hits([each.line for each in page.lines], page.next, page.total), headers=_HEADERS
    )


@get("/console/tasks/{task_id:int}/live", media_type=EVENTS, opt=access.READ)
async def watch(
    request: Request[Any, Any, Any],
    task_id: TaskId,
    stream: OneStream = None,
    after: After = None,
    last_event_id: LastEventId = None,
) -> Response[Any]:
    """The live log as rows: the event `rows` for `output`, all others as they are."""
    return await told(
        request, task_id, stream, None, last_event_id or after, shown=_painted, headers=SAFE
    )


async def _painted(frames: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    painter = Painter()
    async with aclosing(frames):
        async for frame in frames:
            yield await _beside(frame.count(_ESCAPE), partial(painter.frame, frame))


async def _beside(escapes: int, paint: Callable[[], T]) -> T:
    """Paint in a thread where it takes long, so that others are served meanwhile."""
    return await asyncio.to_thread(paint) if is_dear(escapes) else paint()


_HEADERS = SAFE | {"Cache-Control": "no-store"}

HANDLERS = [read_rows, find, watch]
