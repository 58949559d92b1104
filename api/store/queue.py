"""What waits, lane by lane."""

from api.sql import load
from api.store import Connection
from api.store.tasks import shown
from schema.queue import Queue, QueueLane

_SQL = load("queue")
_MOST_LANES = 200


async def look(connection: Connection) -> Queue:
    """How many tasks have not ended, and where they wait."""
    lanes = await connection.fetch(_SQL["count_lanes"])
    others = await connection.fetchrow(_SQL["count_others"])
    assert others is not None  # it has no condition
    return Queue(
        pending=sum(row[1] for row in lanes),
        scheduled=others[0],
        in_progress=others[1],
        lanes=tuple(
            QueueLane(needs=shown(needs), pending=pending, oldest=oldest)
            for needs, pending, oldest in lanes[:_MOST_LANES]
        ),
    )
