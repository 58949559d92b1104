"""Groups: the newest ones, and one of them with its failures first."""

from typing import Annotated, Any

from litestar import Request, Response, get
from litestar.params import QueryParameter

from api import access
from api.console import page
from api.routes import groups
from api.routes.services import services
from api.routes.tasks import NO_CURSOR, below_cursor
from api.store import groups as store
from api.store import tasks as task_store
from schema.tasks import Status, Task

_LINES = 25
_FAILED = 100
_RUNNING = 50
_SLOWEST = 10
_LOOK_S = 4.0
"""A look counts all tasks of the groups that are shown."""

_Name = Annotated[str, QueryParameter(min_length=1, pattern=r"^[^\x00]*$")]
_Cursor = Annotated[str, QueryParameter(max_length=30)]


@get("/console/groups", opt=access.PAGE)
async def list_groups(request: Request[Any, Any, Any], cursor: _Cursor = "") -> Response[Any]:
    """Groups, newest first."""
    below = below_cursor(cursor) if cursor else NO_CURSOR
    found = services(request)

    async def collect() -> dict[str, Any]:
        listed = await groups.page_of(found, below=below, contains=None, limit=_LINES)
        return {"groups": listed.groups, "next": listed.next, "first": bool(cursor)}

    return await page.show(request, "groups.html", collect, _LOOK_S)


@get("/console/group", opt=access.PAGE)
async def show(request: Request[Any, Any, Any], name: _Name) -> Response[Any]:
    """One group. Its name is in the query, where it may have slashes."""
    found = services(request)

    async def collect() -> dict[str, Any]:
        async with found.database.reading() as connection:
            group = (await store.count_many(connection, [name])).get(name)
            if group is None:
                raise groups.no_group(name)

            async def listed(status: Status, limit: int) -> list[int]:
                return await task_store.list_ids(
                    connection, below=NO_CURSOR, status=[status], group=name, name=None,
                    agent=None, limit=limit,
                )  # fmt: skip

            failed = await listed("failed", _FAILED)
            running = await listed("in_progress", _RUNNING)
            slowest = await store.list_slowest(connection, name, _SLOWEST)
            tasks = {
                task.id: task
                for task in await task_store.get_many(connection, {*failed, *running, *slowest})
            }
        open_ = sum(group.counts.get(each, 0) for each in ("pending", "scheduled", "in_progress"))

        def told(ids: list[int]) -> list[Task]:
            return [tasks[number] for number in ids if number in tasks]

        return {
            "group": group,
            "open": open_,
            "failed": told(failed),
            "running": told(running),
            "slowest": told(slowest),
        }

    return await page.show(request, "group.html", collect, _LOOK_S)


HANDLERS = [list_groups, show]
