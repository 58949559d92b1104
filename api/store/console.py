"""What the console's pages show beyond single tasks."""

from datetime import datetime

from msgspec import Struct

from api.sql import load
from api.store import Connection
from api.store.tasks import shown
from schema.tasks import Status

_SQL = load("console")

MOST_WAITING = 10_000
"""More of one queue are not counted."""


class Queue(Struct, frozen=True):
    """Tasks with the same needs that wait."""

    needs: tuple[str, ...]
    waiting: int
    agents: int
    """That live, do not drain, and have all of the labels."""
    slots: int


class Ended(Struct, frozen=True):
    """How many tasks ended in one minute, and how."""

    minute: datetime
    status: Status
    count: int


class Held(Struct, frozen=True):
    """A task that an agent runs."""

    id: int
    called: str
    started_at: datetime


class LiveAgent(Struct, frozen=True, kw_only=True):
    """An agent that lives."""

    session: int
    agent: str
    labels: tuple[str, ...]
    slots: int
    version: str
    drain: bool
    opened_at: datetime
    seen_at: datetime
    running: int
    held: tuple[Held, ...] = ()
    """Some of what it runs."""


class GoneAgent(Struct, frozen=True):
    """An agent that ended."""

    agent: str
    reason: str
    opened_at: datetime
    ended_at: datetime


class Slots(Struct, frozen=True):
    """What all live agents are together."""

    agents: int
    slots: int
    draining: int


async def list_running(connection: Connection, limit: int) -> list[int]:
    """Numbers of tasks that run, the longest first."""
    return [row[0] for row in await connection.fetch(_SQL["list_running"], limit)]


async def list_queues(connection: Connection, limit: int) -> list[Queue]:
    """The longest first."""
    rows = await connection.fetch(_SQL["list_queues"], MOST_WAITING + 1, limit)
    return [Queue(shown(row[0]), *tuple(row)[1:]) for row in rows]


async def count_ended(connection: Connection, since: datetime) -> list[Ended]:
    """What ended since then, by the minute; those without are not there."""
    return [Ended(*row) for row in await connection.fetch(_SQL["count_ended"], since)]


async def list_agents(connection: Connection, limit: int, held: int) -> list[LiveAgent]:
    """By their names, each with at most `held` of what it runs."""
    rows = await connection.fetch(_SQL["list_agents"], limit)
    runs: dict[int, list[Held]] = {row["id"]: [] for row in rows}
    for row in await connection.fetch(_SQL["list_held"], list(runs), held):
        runs[row[0]].append(Held(*tuple(row)[1:]))
    return [
        LiveAgent(
            session=row["id"], agent=row["agent"], slots=row["slots"],
            labels=shown(row["labels"]),
            version=row["version"], drain=row["drain"], opened_at=row["opened_at"],
            seen_at=row["seen_at"], running=row["running"], held=tuple(runs[row["id"]]),
        )
        for row in rows
    ]  # fmt: skip


async def list_gone(connection: Connection, limit: int) -> list[GoneAgent]:
    """Who ended within a day, newest first."""
    return [GoneAgent(*row) for row in await connection.fetch(_SQL["list_gone"], limit)]


async def count_slots(connection: Connection) -> Slots:
    """What all live agents are together."""
    row = await connection.fetchrow(_SQL["count_slots"])
    assert row is not None
    return Slots(*row)
