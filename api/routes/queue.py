"""The queue: how much waits, and for what kind of agent."""

from typing import Any

from litestar import Request, get

from api import access
from api.routes.services import services
from api.store import queue as store
from schema.queue import Queue


@get("/queue", tags=["tasks"], opt=access.READ)
async def show(request: Request[Any, Any, Any]) -> Queue:
    """How many tasks have not ended, and which lanes are the longest."""
    async with services(request).database.reading() as connection:
        return await store.look(connection)


HANDLERS = [show]
