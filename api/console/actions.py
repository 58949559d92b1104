"""What buttons do: the same as the routes for programs, and then back to the page."""

from typing import Any

from litestar import Request, Response, post

from api import access
from api.access import who_asks
from api.console import forms
from api.problems import not_found
from api.routes import agents
from api.routes.services import Services, services
from api.routes.tasks import NO_CURSOR, TaskId, end, run_again
from api.store import console as store
from api.store import tasks as task_store
from schema.tasks import Status

_AT_ONCE = 200
"""Tasks in one transaction: agents whose tasks these are wait for it."""

_OPEN: tuple[Status, ...] = ("pending", "scheduled", "in_progress")


@post("/console/tasks/{task_id:int}/cancel", opt=access.SUBMIT)
async def cancel(request: Request[Any, Any, Any], task_id: TaskId) -> Response[None]:
    """End a task."""
    form = await forms.read(request)
    await end(services(request), task_id, who_asks(request).name)
    return forms.back(form)


@post("/console/tasks/{task_id:int}/retry", opt=access.SUBMIT)
async def retry(request: Request[Any, Any, Any], task_id: TaskId) -> Response[None]:
    """Run a task again, after the attempt that the page showed: pressed twice, it is once."""
    form = await forms.read(request)
    after = form.get("after_attempt", "")
    known = int(after) if after.isascii() and after.isdigit() and len(after) < 10 else None  # noqa: PLR2004 - of 32 bits
    await run_again(services(request), task_id, known, who_asks(request).name)
    return forms.back(form)


@post("/console/group/cancel", opt=access.SUBMIT)
async def cancel_group(request: Request[Any, Any, Any]) -> Response[None]:
    """End all tasks of a group that have not ended."""
    form = await forms.read(request)
    found, who = services(request), who_asks(request).name
    name = await _group(found, form)
    above = 0
    while True:
        async with found.database.acquire() as connection, connection.transaction():
            ids = await store.list_members(connection, name, above, _OPEN, _AT_ONCE)
            asked = [await task_store.cancel(connection, task, who) for task in ids]
        found.notices.sessions_changed(
            {each.session for each in asked if each is not None and each.session is not None}
        )
        found.notices.tasks_moved(ids)
        if len(ids) < _AT_ONCE:
            return forms.back(form)
        above = ids[-1]


@post("/console/group/retry", opt=access.SUBMIT)
async def retry_group(request: Request[Any, Any, Any]) -> Response[None]:
    """Run the tasks of a group that failed again."""
    form = await forms.read(request)
    found, who = services(request), who_asks(request).name
    name = await _group(found, form)
    above = 0
    while True:
        async with found.database.acquire() as connection, connection.transaction():
            ids = await store.list_members(connection, name, above, ("failed",), _AT_ONCE)
            queued = [await task_store.retry(connection, task, None, who) for task in ids]
        found.notices.tasks_queued([each for each in queued if each is not None])
        found.notices.tasks_moved(ids)
        if len(ids) < _AT_ONCE:
            return forms.back(form)
        above = ids[-1]


async def _group(found: Services, form: dict[str, str]) -> str:
    """The group that a form names; a 404 problem."""
    name = form.get("name", "")
    if name and "\0" not in name:
        async with found.database.reading() as connection:
            if await task_store.list_ids(
                connection, below=NO_CURSOR, status=None, group=name, name=None, agent=None, limit=1
            ):
                return name
    raise not_found(f"no task names the group {name!r}")


@post("/console/agents/drain", opt=access.ADMIN)
async def drain(request: Request[Any, Any, Any]) -> Response[None]:
    """Let all live agents of a name finish what they run, and end."""
    form = await forms.read(request)
    await agents.drain(services(request), form.get("name", ""), who_asks(request).name)
    return forms.back(form)


HANDLERS = [cancel, retry, cancel_group, retry_group, drain]
