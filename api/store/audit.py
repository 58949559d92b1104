"""The audit: what people did, written down once and read by the admin."""

from api.sql import load
from api.store import Connection
from schema.audit import Action, AuditEntry

_SQL = load("audit")
_LOCK = 0x6477_0005


async def add_entry(
    connection: Connection, who: str, action: Action, about: str | None = None
) -> None:
    """Note what no statement of its own notes."""
    await connection.execute(_SQL["add_entry"], who, action, about)


async def list_entries(connection: Connection, below: int, limit: int) -> list[AuditEntry]:
    """Newest first, numbers smaller than `below`."""
    return [AuditEntry(**row) for row in await connection.fetch(_SQL["list_entries"], below, limit)]


async def drop_entries(connection: Connection, days: int) -> int:
    """Remove some that are older; how many, 0 where none are left."""
    return int(await connection.fetchval(_SQL["drop_entries"], days))


async def submissions_left(connection: Connection, who: str, a_minute: int) -> float:
    """Seconds until this token may submit again, 0 for now; a transaction must be open.

    Until it ends, other submissions of that token wait: what is counted is what was committed.
    """
    await connection.execute(_SQL["lock_submissions"], _LOCK, who)
    age_s: float | None = await connection.fetchval(_SQL["nth_submission"], who, a_minute)
    return 0.0 if age_s is None else max(0.0, 60 - age_s)
