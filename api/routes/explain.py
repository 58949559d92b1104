"""`GET /tasks/{id}/explain`."""

from typing import Any

from litestar import Request, get

from api import access, explaining
from api.routes.services import Services, services
from api.routes.tasks import TaskId, no_task
from api.store import explain as store
from api.store import one_moment
from schema.explain import Explanation


@get("/tasks/{task_id:int}/explain", tags=["tasks"], opt=access.READ)
async def explain(request: Request[Any, Any, Any], task_id: TaskId) -> Explanation:
    """Why a task is still pending: in words, and as data with a `kind` for each reason."""
    return await explanation(services(request), task_id)


async def explanation(found: Services, task_id: int) -> Explanation:
    """Why a task waits; a 404 problem."""
    lacking, takers, ahead = None, [], 0
    async with found.database.reading() as connection, one_moment(connection):
        what = await store.find_task(connection, task_id)
        if what is None:
            raise no_task(task_id)
        if what.status == "pending":
            takers = await store.list_takers(connection, what.needs)
            if not takers:
                lacking = await store.list_nearest(connection, what.needs)
            ahead = await store.count_ahead(connection, what)
    return explaining.explain(task_id, what, takers, lacking, ahead)


HANDLERS = [explain]
