"""Groups: tasks submitted together as one test run."""

from typing import Any

from litestar import Request, get
from litestar.params import FromPath

from api import access
from api.problems import not_found
from api.routes.services import services
from api.store import tasks as store
from schema.tasks import Group


@get("/groups/{name:path}", tags=["groups"], opt=access.READ)
async def show(request: Request[Any, Any, Any], name: FromPath[str]) -> Group:
    """How many tasks of a group stand where, and when the last one ended."""
    name = name.removeprefix("/")  # of the path type, so that a branch such as a/b can be a group
    found = None
    if "\0" not in name:  # PostgreSQL's text has none
        async with services(request).database.reading() as connection:
            found = await store.group(connection, name)
    if found is None:
        raise not_found(f"no task names the group {name!r}")
    return found


HANDLERS = [show]
