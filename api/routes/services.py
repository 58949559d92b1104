"""What handlers work with."""

import asyncio
from collections.abc import Coroutine
from http import HTTPStatus
from typing import Any, TypeVar

from litestar import Request
from litestar.types import Receive
from msgspec import Struct

from api import room
from api.access import who_asks
from api.bodies import Limits
from api.claims import Claims
from api.database import Database
from api.delivery import Delivery
from api.lanes import Lanes
from api.live.audience import Audience
from api.live.groups import Groups
from api.live.service import Live
from api.log_limit import CutMarks, PulledLogs
from api.notices import Notices
from api.problems import ProblemError
from api.pulled import PulledAttempts
from api.reports import Reports
from api.sealing import Seals
from api.sessions import Sessions
from api.settings import Settings
from api.submitting import Submitting
from api.tokens import Tokens
from api.writing import Writer

T = TypeVar("T")

_PARK_AGAIN_S = 5.0
AnyRequest = Request[Any, Any, Any]


class Services(Struct, frozen=True):
    """Made once for each process by `api.app`."""

    settings: Settings
    database: Database
    tokens: Tokens
    lanes: Lanes
    notices: Notices
    sessions: Sessions
    claims: Claims
    submitting: Submitting
    writer: Writer
    reports: Reports
    pulled: PulledAttempts
    audience: Audience
    live: Live
    groups: Groups
    pulled_logs: PulledLogs
    cut_marks: CutMarks
    seals: Seals | None
    delivery: Delivery
    lease_key: bytes
    large: Limits
    """Of bodies with tasks or logs."""
    small: Limits
    """Of all others."""


def services(request: AnyRequest) -> Services:
    """Those of the process that answers."""
    found: Services = request.app.state["services"]
    return found


async def while_connected(request: AnyRequest, work: Coroutine[Any, Any, T]) -> T:
    """Await `work`, parked; cancel it when the client goes away before it is done.

    429 where its token has as many requests parked as it may. Not a TaskGroup: it would wrap the
    problems that `work` raises.
    """
    who, most = who_asks(request), services(request).settings.max_parked
    if who.parked >= most:
        work.close()
        raise ProblemError(
            HTTPStatus.TOO_MANY_REQUESTS,
            f"{who.name} already has {most} requests waiting in this worker (MAX_PARKED);"
            " retry later",
            retry_after_s=_PARK_AGAIN_S,
        )
    room.leave(request.scope)
    who.parked += 1
    task = asyncio.ensure_future(work)
    watcher = asyncio.ensure_future(until_gone(request.receive))
    try:
        await asyncio.wait([task, watcher], return_when=asyncio.FIRST_COMPLETED)
    finally:
        who.parked -= 1
        for each in (task, watcher):
            each.cancel()
        await asyncio.wait([task, watcher])
    if task.cancelled():
        raise ProblemError(HTTPStatus.REQUEST_TIMEOUT, "the client disconnected")
    return task.result()


async def until_gone(receive: Receive) -> None:
    """Return when the client goes away."""
    while (await receive())["type"] != "http.disconnect":
        pass
