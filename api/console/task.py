"""One task: what it is, what became of it, why it waits, and its log."""

from typing import Annotated, Any

from litestar import Request, Response, get
from litestar.params import QueryParameter

from api import access
from api.console import page
from api.routes.explain import explanation
from api.routes.services import services
from api.routes.tasks import TaskId, in_full, no_attempt
from schema.tasks import FINAL

_Number = Annotated[int | None, QueryParameter(ge=1, le=2**31 - 1)]


@get("/console/tasks/{task_id:int}", opt=access.PAGE)
async def show(
    request: Request[Any, Any, Any], task_id: TaskId, attempt: _Number = None
) -> Response[Any]:
    """A task, and the log of one attempt: of the newest one, if none is named."""
    found = services(request)

    async def collect() -> dict[str, Any]:
        task = await in_full(found, task_id)
        if attempt is not None and attempt > task.attempt:
            raise no_attempt(task_id, attempt)
        earlier = {each.attempt: each for each in task.attempts or ()}
        run = earlier.get(attempt or 0, task)
        waits = task.status in {"pending", "scheduled"}
        return {
            "task": task,
            "attempt": attempt,
            "shown": attempt or task.attempt,
            "begun": run.started_at,
            "over": task.status in FINAL,
            "why": await explanation(found, task_id) if waits else None,
        }

    return await page.show(request, "task.html", collect)


HANDLERS = [show]
