"""Agents: who lives, what runs there, and who went away."""

from typing import Any

from litestar import Request, Response, get

from api import access
from api.console import page
from api.routes.services import services
from api.store import console as store

_MOST = 500
_HELD = 8
_GONE = 20


@get("/console/agents", opt=access.PAGE)
async def list_agents(request: Request[Any, Any, Any]) -> Response[Any]:
    """Agents that live, by name, and those that ended within a day."""
    found = services(request)

    async def collect() -> dict[str, Any]:
        async with found.database.reading() as connection:
            return {
                "agents": await store.list_agents(connection, _MOST, _HELD),
                "gone": await store.list_gone(connection, _GONE),
                "slots": await store.count_slots(connection),
                "most": _MOST,
            }

    return await page.show(request, "agents.html", collect)


HANDLERS = [list_agents]
