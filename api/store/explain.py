"""What decides when a task is taken, and by whom."""

from datetime import datetime

import msgspec
from msgspec import Struct

from api.sql import load
from api.store import Connection
from schema.explain import Nearest
from schema.tasks import Reason, Status

_SQL = load("explain")
_decode = msgspec.json.Decoder(list[tuple[str, ...]]).decode

MOST_TAKERS = 1000
MOST_AHEAD = 1000
_NEAREST = 3


class Waiting(Struct, frozen=True):
    """A task as far as it decides who may take it when."""

    status: Status
    attempt: int
    reason: Reason | None
    run_after: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    cancel_requested: bool
    lane: int
    priority: int
    queue_seq: int
    needs: tuple[str, ...]
    agent: str | None
    last_reason: Reason | None
    """Of the newest attempt, where the task waits to run again."""
    last_exit_code: int | None
    last_signal: int | None


class Taker(Struct, frozen=True):
    """A live agent that could take it."""

    agent: str
    slots: int
    drain: bool
    running: int
    free_by: datetime | None
    """When the first of what it runs must have ended."""


class Lacking(Struct, frozen=True):
    """What the live agents lack."""

    agents: int
    missing: tuple[str, ...]
    """Labels that none has."""
    nearest: tuple[Nearest, ...]


async def find_task(connection: Connection, task: int) -> Waiting | None:
    """None: there is no such task."""
    row = await connection.fetchrow(_SQL["find_task"], task)
    if row is None:
        return None
    values = dict(zip(Waiting.__struct_fields__, row, strict=True))
    return Waiting(**values | {"needs": tuple(row["needs"])})


async def list_takers(connection: Connection, needs: tuple[str, ...]) -> list[Taker]:
    """Live agents that have all labels, at most 1,000."""
    rows = await connection.fetch(_SQL["list_takers"], needs, MOST_TAKERS)
    return [Taker(*row) for row in rows]


async def list_nearest(connection: Connection, needs: tuple[str, ...]) -> Lacking:
    """What is missing, and where the least is."""
    row = await connection.fetchrow(_SQL["list_nearest"], needs, _NEAREST)
    assert row is not None  # it has no condition
    missing = _decode(row[3]) if row[3] else []
    nearest = tuple(Nearest(*each) for each in zip(row[2], missing, strict=True))
    return Lacking(row[0], tuple(row[1]), nearest)


async def count_ahead(connection: Connection, task: Waiting) -> int:
    """Tasks of its lane that are claimed before it, counted up to 1,000."""
    return int(
        await connection.fetchval(
            _SQL["count_ahead"], task.lane, task.priority, task.queue_seq, MOST_AHEAD
        )
    )
