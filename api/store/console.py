"""What the console's pages show beyond single tasks."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from api.sql import load
from api.store import Connection
from schema.tasks import INFRASTRUCTURE, Status

_SQL = load("console")

MOST_WAITING = 10_000
"""More of one queue are not counted."""

_GROUPS_WITHIN = 500_000
"""Task numbers that are looked through for the groups of one page: 0.1 s at most."""

_STATUSES: tuple[Status, ...] = (
    "pending", "scheduled", "in_progress", "succeeded", "failed", "cancelled",
)  # fmt: skip


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


class GroupLine(Struct, frozen=True, kw_only=True):
    """A group in a list."""

    name: str
    newest: int
    """Number of its newest task."""
    counts: dict[Status, int]
    infrastructure: int
    submitted_at: datetime
    finished_at: datetime | None
    """Of its last task; None while any has not ended."""

    @property
    def total(self) -> int:
        """All of its tasks."""
        return sum(self.counts.values())


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
    return [Queue(tuple(row[0]), *tuple(row)[1:]) for row in rows]


async def count_ended(connection: Connection, since: datetime) -> list[Ended]:
    """What ended since then, by the minute; those without are not there."""
    return [Ended(*row) for row in await connection.fetch(_SQL["count_ended"], since)]


async def list_groups(
    connection: Connection, below: int | None, limit: int
) -> tuple[list[GroupLine], int | None]:
    """By their newest task, and the cursor of the next page; None where nothing is left."""
    rows = await connection.fetch(
        _SQL["list_groups"], below, _GROUPS_WITHIN, limit + 1, list(INFRASTRUCTURE)
    )
    down_to: int = rows[0]["seen_down_to"]  # there is a row, also where no group is found
    rows = [row for row in rows if row["group_name"] is not None]
    lines = []
    for row in rows[:limit]:
        counts = {status: row[status] for status in _STATUSES if row[status]}
        ended = not any(row[status] for status in ("pending", "scheduled", "in_progress"))
        lines.append(
            GroupLine(
                name=row["group_name"], newest=row["newest"], counts=counts,
                infrastructure=row["infrastructure"], submitted_at=row["submitted_at"],
                finished_at=row["finished_at"] if ended else None,
            )
        )  # fmt: skip
    if len(rows) > limit:
        return lines, lines[-1].newest
    return lines, down_to if down_to > 1 else None


async def list_slowest(connection: Connection, group: str, limit: int) -> list[int]:
    """Numbers of those of a group that ran longest."""
    return [row[0] for row in await connection.fetch(_SQL["list_slowest"], group, limit)]


async def list_members(
    connection: Connection, group: str, above: int, statuses: Sequence[Status], limit: int
) -> list[int]:
    """Numbers of those of a group that are in one of these states, from small to large."""
    rows = await connection.fetch(_SQL["list_members"], group, above, list(statuses), limit)
    return [row[0] for row in rows]


async def list_agents(connection: Connection, limit: int, held: int) -> list[LiveAgent]:
    """By their names, each with at most `held` of what it runs."""
    rows = await connection.fetch(_SQL["list_agents"], limit)
    runs: dict[int, list[Held]] = {row["id"]: [] for row in rows}
    for row in await connection.fetch(_SQL["list_held"], list(runs), held):
        runs[row[0]].append(Held(*tuple(row)[1:]))
    return [
        LiveAgent(
            session=row["id"], agent=row["agent"], labels=tuple(row["labels"]), slots=row["slots"],
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
