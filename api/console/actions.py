"""What buttons do: the same as the routes for programs, and then back to the page."""

from typing import Any

from litestar import Request, Response, post

from api import access
from api.access import who_asks
from api.console import forms
from api.routes import agents, group_changes
from api.routes.services import services
from api.routes.tasks import TaskId, end, run_again
from schema.tasks import GroupRetry


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
    await group_changes.end(services(request), form.get("name", ""), who_asks(request).name)
    return forms.back(form)


@post("/console/group/retry", opt=access.SUBMIT)
async def retry_group(request: Request[Any, Any, Any]) -> Response[None]:
    """Run the tasks of a group that failed again."""
    form = await forms.read(request)
    await group_changes.run_again(
        services(request), form.get("name", ""), GroupRetry(), who_asks(request).name
    )
    return forms.back(form)


@post("/console/agents/drain", opt=access.ADMIN)
async def drain(request: Request[Any, Any, Any]) -> Response[None]:
    """Let all live agents of a name finish what they run, and end."""
    form = await forms.read(request)
    await agents.drain(services(request), form.get("name", ""), who_asks(request).name)
    return forms.back(form)


HANDLERS = [cancel, retry, cancel_group, retry_group, drain]
