"""Groups as a whole: cancelled, run again.

Step by step, each a transaction of its own: what a request that broke off has done stands, and
sending it again does the rest.
"""

from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, post

from api import access, bodies
from api.access import who_asks
from api.paths import name_in
from api.problems import ProblemError
from api.routes.described import body
from api.routes.groups import GroupName, no_group
from api.routes.services import Services, services
from api.store import groups as store
from api.store.groups import Stretch
from schema.tasks import GroupCancelled, GroupRetried, GroupRetry

_retry = msgspec.json.Decoder(GroupRetry)


@post("/groups/{name:str}/cancel", status_code=200, tags=["groups"], opt=access.SUBMIT)
async def cancel(request: Request[Any, Any, Any], name: GroupName) -> GroupCancelled:
    """End all tasks of a group that have not ended, as the route of one task does."""
    return await end(services(request), name_in(name), who_asks(request).name)


async def end(found: Services, name: str, who: str) -> GroupCancelled:
    """End them, in steps; a 404 problem."""
    above, last = 0, await _last(found, name)
    cancelled = asked = 0
    while True:
        async with found.database.acquire() as connection:
            some = await store.cancel_some(connection, Stretch(name, above, last), who)
        if some is None:
            return GroupCancelled(name, cancelled, asked)
        found.notices.sessions_changed(some.sessions)
        found.notices.tasks_moved(some.moved)
        above = some.last
        cancelled += some.cancelled
        asked += some.asked


@post(
    "/groups/{name:str}/retry",
    status_code=200,
    tags=["groups"],
    opt=access.SUBMIT,
    operation_class=body(GroupRetry, {"status": ["failed", "cancelled"]}, required=False),
)
async def retry(request: Request[Any, Any, Any], name: GroupName) -> GroupRetried:
    """Run finished tasks of a group again: those that failed, unless `status` says otherwise."""
    found = services(request)
    sent = await bodies.decoded(request, _retry, found.small, without=GroupRetry())
    if sent.ended_before is not None and sent.ended_before.tzinfo is None:
        raise ProblemError(
            HTTPStatus.BAD_REQUEST,
            "the body: ended_before needs a UTC offset, such as Z - at `$.ended_before`",
        )
    return await run_again(found, name_in(name), sent, who_asks(request).name)


async def run_again(found: Services, name: str, sent: GroupRetry, who: str) -> GroupRetried:
    """Queue them again, in steps; a 404 problem."""
    above, last = 0, await _last(found, name)
    retried = 0
    while True:
        async with found.database.acquire() as connection:
            some = await store.retry_some(
                connection, Stretch(name, above, last), sent.status, sent.ended_before, who
            )
        if some is None:
            return GroupRetried(name, retried)
        found.notices.tasks_queued(some.queued)
        found.notices.tasks_moved(some.moved)
        above = some.last
        retried += len(some.queued)


async def _last(found: Services, name: str) -> int:
    """Number of its last task now: those that come later are left alone, or this might not end."""
    last = None
    if "\0" not in name:  # PostgreSQL's text has none
        async with found.database.reading() as connection:
            last = await store.find_last(connection, name)
    if last is None:
        raise no_group(name)
    return last


HANDLERS = [cancel, retry]
