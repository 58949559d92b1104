"""The audit: what people did; for admins."""

from typing import Annotated, Any

from litestar import Request, get
from litestar.params import QueryParameter

from api import access
from api.routes.services import services
from api.routes.tasks import NO_CURSOR, Cursor, below_cursor
from api.store import audit as store
from schema.audit import AuditPage


@get("/audit", tags=["tokens"], opt=access.ADMIN)
async def list_audit(
    request: Request[Any, Any, Any],
    limit: Annotated[int, QueryParameter(ge=1, le=1000)] = 100,
    cursor: Cursor = None,
) -> AuditPage:
    """Who submitted, cancelled, retried, drained, made and revoked tokens, logged in; newest first.

    What agents do is not in it: a task's attempts tell that.
    """
    below = NO_CURSOR if cursor is None else below_cursor(cursor)
    async with services(request).database.reading() as connection:
        entries = await store.list_entries(connection, below, limit + 1)
    page = tuple(entries[:limit])
    return AuditPage(page, str(page[-1].id) if len(entries) > limit else None)


HANDLERS = [list_audit]
