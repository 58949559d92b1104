"""Groups: tasks submitted together as one test run."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

import msgspec
from litestar import Request, get
from litestar.params import FromQuery, PathParameter
from litestar.response import Stream as StreamResponse

from api import access
from api.contents import contents_of
from api.paths import name_in
from api.problems import ProblemError, not_found
from api.reading import LogReader, Timestamps, View
from api.routes.logs import BOTH, Grep, IgnoreCase, OneStream, Tail, Wildcards, wanted
from api.routes.services import Services, services
from api.store import live as live_store
from api.store import logs as log_store
from api.store import tasks as store
from api.store.live import Member
from schema.tasks import Group, Stream

_AT_ONCE = 1000  # members looked up together

GroupName = Annotated[
    str, PathParameter(description="A slash in it may be written `%2F`, or as it is.")
]


def _no_group(name: str) -> ProblemError:
    return not_found(f"no task names the group {name!r}")


@get("/groups/{name:str}", tags=["groups"], opt=access.READ)
async def show(request: Request[Any, Any, Any], name: GroupName) -> Group:
    """How many tasks of a group stand where, and when the last one ended."""
    name = name_in(name)
    found = None
    if "\0" not in name:  # PostgreSQL's text has none
        async with services(request).database.reading() as connection:
            found = await store.group(connection, name)
    if found is None:
        raise _no_group(name)
    return found


@get("/groups/{name:str}/logs", media_type="text/plain", tags=["groups"], opt=access.READ)
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
    streams: tuple[Stream, ...] = BOTH if stream is None else (stream,)
    members = await _members(found, name, 0)
    if not members:
        raise _no_group(name)
    return StreamResponse(_texts(found, name, members, streams, view))


async def _members(found: Services, name: str, above: int) -> list[Member]:
    if "\0" in name:
        return []
    async with found.database.reading() as connection:
        return await live_store.group_members(connection, name, above, _AT_ONCE)


async def _texts(
    found: Services, name: str, members: list[Member], streams: tuple[Stream, ...], view: View
) -> AsyncGenerator[bytes, None]:
    while members:
        for member in members:
            async with aclosing(_text(found, member.task, streams, view)) as pieces:
                async for piece in pieces:
                    yield piece
        members = await _members(found, name, members[-1].task)


async def _text(
    found: Services, task: int, streams: tuple[Stream, ...], view: View
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


HANDLERS = [show, read]
