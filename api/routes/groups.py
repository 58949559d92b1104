"""Groups: tasks submitted together as one test run."""

from collections.abc import AsyncGenerator
from contextlib import ExitStack, aclosing
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get
from litestar.params import FromQuery, PathParameter, QueryParameter
from litestar.response import Stream as StreamResponse

from api import access
from api.access import who_asks
from api.contents import contents_of
from api.live import group_positions, group_viewing
from api.live.group_positions import GroupPosition
from api.live.group_tails import MAX_TASKS, GroupTail
from api.live.steps import Streams
from api.live.tails import BOTH
from api.paths import name_in
from api.positions import BadPositionError
from api.problems import ProblemError, not_found
from api.reading import LogReader, Timestamps, View
from api.routes.described import answers
from api.routes.event_stream import EVENTS, EventStream
from api.routes.live import After, LastEventId
from api.routes.logs import (
    FROM_0,
    Grep,
    IgnoreCase,
    OneStream,
    Tail,
    Wildcards,
    counted,
    reader_of,
    wanted,
)
from api.routes.services import Services, services
from api.routes.tasks import NO_CURSOR, Cursor, Text, below_cursor
from api.store import groups as store
from api.store import live as live_store
from api.store import logs as log_store
from api.store import tasks as task_store
from api.store.live import Member
from schema.tasks import Group, GroupPage

_AT_ONCE = 1000  # members looked up together

GroupName = Annotated[
    str, PathParameter(description="A slash in it may be written `%2F`, or unencoded.")
]


def no_group(name: str) -> ProblemError:
    """404 for a group."""
    return not_found(f"there is no group {name!r}")


@get("/groups", tags=["groups"], opt=access.READ)
async def list_groups(
    request: Request[Any, Any, Any],
    contains: Text = None,
    limit: Annotated[int, QueryParameter(ge=1, le=100)] = 20,
    cursor: Cursor = None,
) -> GroupPage:
    """Groups with their counts, newest first; `contains`: a part of the name, in whatever case."""
    below = NO_CURSOR if cursor is None else below_cursor(cursor)
    return await page_of(services(request), below=below, contains=contains, limit=limit)


async def page_of(found: Services, *, below: int, contains: str | None, limit: int) -> GroupPage:
    """A page of groups, newest first, below a cursor."""
    async with found.database.reading() as connection:
        named = await store.list_names(connection, below=below, contains=contains, limit=limit + 1)
        page = named[:limit]
        counted = await store.count_many(connection, [name for _, name in page])
    groups = tuple(counted[name] for _, name in page if name in counted)
    return GroupPage(groups, str(page[-1][0]) if len(named) > limit else None)


@get("/groups/{name:str}", tags=["groups"], opt=access.READ)
async def show(
    request: Request[Any, Any, Any],
    name: GroupName,
    slowest: Annotated[int, QueryParameter(ge=0, le=100, schema_extra=FROM_0)] = 0,
) -> Group:
    """How many tasks of a group stand where, and when the last one ended.

    With `slowest`, also so many tasks that run, or ran, the longest.
    """
    name = name_in(name)
    found = None
    if "\0" not in name:  # PostgreSQL's text has none
        async with services(request).database.reading() as connection:
            found = (await store.count_many(connection, [name])).get(name)
            if found is not None and slowest:
                ids = await store.list_slowest(connection, name, slowest)
                tasks = {task.id: task for task in await task_store.get_many(connection, ids)}
                found = msgspec.structs.replace(found, slowest=tuple(tasks[each] for each in ids))
    if found is None:
        raise no_group(name)
    return found


@get(
    "/groups/{name:str}/logs",
    media_type="text/plain",
    tags=["groups"],
    opt=access.READ,
    operation_class=answers("429"),
)
async def read(
    request: Request[Any, Any, Any],
    name: GroupName,
    *,
    stream: OneStream = None,
    tail: Tail = None,
    timestamps: FromQuery[Timestamps] = "none",
    grep: Grep = None,
    wildcards: Wildcards = False,
    ignore_case: IgnoreCase = False,
) -> StreamResponse:
    """The logs of all tasks of a group, oldest task first: lines as `task:line:text`.

    Of each task its newest attempt; with `tail`, the last lines of each.
    """
    name = name_in(name)
    found = services(request)
    pattern = wanted(grep, wildcards=wildcards, ignore_case=ignore_case)
    view = View(tail=tail, timestamps=timestamps, numbers=True, pattern=pattern)
    streams: Streams = BOTH if stream is None else (stream,)
    who = reader_of(request)
    members = await _members(found, name, 0)
    if not members:
        raise no_group(name)
    return StreamResponse(counted(_texts(found, name, members, streams, view), who))


async def _members(found: Services, name: str, above: int) -> list[Member]:
    if "\0" in name:
        return []
    async with found.database.reading() as connection:
        return await live_store.group_members(connection, name, above, _AT_ONCE)


async def _texts(
    found: Services, name: str, members: list[Member], streams: Streams, view: View
) -> AsyncGenerator[bytes, None]:
    while members:
        for member in members:
            async with aclosing(_text(found, member.task, streams, view)) as pieces:
                async for piece in pieces:
                    yield piece
        members = await _members(found, name, members[-1].task)


async def _text(
    found: Services, task: int, streams: Streams, view: View
) -> AsyncGenerator[bytes, None]:
    async with found.database.reading() as connection:
        place = await log_store.attempt_place(connection, task, None)
        if place is None:
            return
        contents = await contents_of(connection, task, place, streams)
    named = msgspec.structs.replace(view, prefix=b"%d:" % task)
    last = b"\n"
    async with aclosing(LogReader(found.database, task, contents).text(named)) as pieces:
        async for piece in pieces:
            yield piece
            last = piece
    if not last.endswith(b"\n"):
        yield b"\n"


@get(
    "/groups/{name:str}/logs/live",
    media_type=EVENTS,
    tags=["groups"],
    opt=access.READ,
    operation_class=answers("204 422 429"),
)
async def watch(
    request: Request[Any, Any, Any],
    name: GroupName,
    *,
    stream: OneStream = None,
    tail: Tail = None,
    after: After = None,
    last_event_id: LastEventId = None,
) -> Response[Any]:
    """What all tasks of a group wrote and write, until all have ended.

    Events as for a task, with its number in each; `group` tells how many stand where, and `done`
    that all have ended. With `tail`, tasks that have ended are left out. At most 10,000 tasks, of
    which some 4,000 may run at a time.
    """
    name = name_in(name)
    found = services(request)
    streams: Streams = BOTH if stream is None else (stream,)
    if "\0" in name:
        raise no_group(name)
    with ExitStack() as holding:
        over = holding.enter_context(found.audience.seat(who_asks(request)))
        group = holding.enter_context(found.groups.watching(name))
        if not await group.known(freshly=True):
            raise no_group(name)
        if group.too_many:
            raise ProblemError(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                f"group {name!r} has more than {MAX_TASKS} tasks: too many to watch",
            )
        first = b""
        if text := last_event_id or after:
            position = _resumed(group, text)
            if position.all_told and group.all_told(position):
                return Response(None, status_code=HTTPStatus.NO_CONTENT)
        else:
            position, first = await group_viewing.first_group_position(group, tail, streams)
        if (chars := len(str(position))) > found.groups.most_chars:
            raise ProblemError(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                f"too many tasks of group {name!r} run to be watched together: a place in all their"
                f" logs takes {chars} characters, and a request has room for"
                f" {found.groups.most_chars} (MAX_HEADER_BYTES)",
            )
        events = group_viewing.view_group(found.groups, group, position, first, streams)
        return EventStream(events, over, holding.pop_all())


def _resumed(group: GroupTail, text: str) -> GroupPosition:
    try:
        position = group_positions.parse(text)
    except BadPositionError as error:
        raise ProblemError(HTTPStatus.BAD_REQUEST, str(error)) from None
    return group.reopen(position.counted(group.ids), group.ids)


HANDLERS = [list_groups, show, read, watch]
