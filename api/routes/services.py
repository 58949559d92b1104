"""What handlers work with."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, TypeVar

from litestar import Request
from msgspec import Struct

from api.claims import Claims
from api.database import Database
from api.lanes import Lanes
from api.notices import Notices
from api.reports import Reports
from api.sessions import Sessions
from api.settings import Settings

T = TypeVar("T")

AnyRequest = Request[Any, Any, Any]


class Services(Struct, frozen=True):
    """Made once for each process by `api.app`."""

    settings: Settings
    database: Database
    lanes: Lanes
    notices: Notices
    sessions: Sessions
    claims: Claims
    reports: Reports
    lease_key: bytes


def services(request: AnyRequest) -> Services:
    """Those of the process that answers."""
    found: Services = request.app.state["services"]
    return found


async def while_connected(request: AnyRequest, work: Coroutine[Any, Any, T]) -> T:
    """Await `work`; cancel it when the client goes away before it is done."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(work)
        watcher = group.create_task(_cancel_when_gone(request, task))
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([task])
        watcher.cancel()
    return task.result()


async def _cancel_when_gone(request: AnyRequest, task: "asyncio.Task[Any]") -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    task.cancel()
