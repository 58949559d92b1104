"""The list of tasks."""

from typing import Annotated, Any
from urllib.parse import urlencode

from litestar import Request, Response, get
from litestar.params import FromQuery, QueryParameter

from api import access
from api.console import page
from api.console.words import NAMES
from api.routes.services import services
from api.routes.tasks import NO_CURSOR, Text, below_cursor
from api.store import tasks as store
from schema.tasks import Status

_LINES = 50
_Cursor = Annotated[str, QueryParameter(max_length=30)]


@get("/console/tasks", opt=access.PAGE)
async def list_tasks(
    request: Request[Any, Any, Any],
    status: FromQuery[list[Status] | None] = None,
    group: Text = "",
    name: Text = "",
    agent: Text = "",
    cursor: _Cursor = "",
) -> Response[Any]:
    """Tasks, newest first, by their state, group, name and agent; an empty filter is off."""
    below = below_cursor(cursor) if cursor else NO_CURSOR
    found = services(request)
    texts = {"group": group or "", "name": name or "", "agent": agent or ""}

    async def collect() -> dict[str, Any]:
        async with found.database.reading() as connection:
            ids = await store.list_ids(
                connection, below=below, status=status, limit=_LINES + 1,
                **{key: value or None for key, value in texts.items()},
            )  # fmt: skip
            tasks = await store.get_many(connection, ids[:_LINES])
        kept: list[tuple[str, str]] = [("status", each) for each in status or ()]
        kept += [(key, value) for key, value in texts.items() if value]
        return {
            "tasks": tasks,
            "statuses": list(NAMES),
            "chosen": status or [],
            "filters": texts,
            "filtered": bool(kept),
            "first": f"?{urlencode(kept)}" if cursor else None,
            "next": f"?{urlencode([*kept, ('cursor', ids[_LINES - 1])])}"
            if len(ids) > _LINES
            else None,
        }

    return await page.show(request, "tasks.html", collect)


HANDLERS = [list_tasks]
