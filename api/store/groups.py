"""Groups: listed, counted, cancelled, run again."""

from collections.abc import Collection, Iterable
from datetime import datetime
from itertools import groupby
from typing import NamedTuple

from asyncpg import Record
from msgspec import Struct

from api.sql import load
from api.store import Connection
from api.store.tasks import Queued
from schema.tasks import INFRASTRUCTURE, FinalStatus, Group

_SQL = load("groups")

AT_ONCE = 1000
"""Tasks that one transaction changes."""


class Stretch(NamedTuple):
    """Tasks of a group by their numbers."""

    name: str
    above: int
    up_to: int


class SomeCancelled(Struct, frozen=True):
    """What became of some tasks."""

    last: int
    """The number that the next stretch is above."""
    moved: list[int]
    """Tasks that were changed."""
    cancelled: int
    asked: int
    """Tasks that run, also those that had been asked before."""
    sessions: set[int]
    """Whom to tell."""


class SomeRetried(Struct, frozen=True):
    """What became of some tasks."""

    last: int
    moved: list[int]
    queued: list[Queued]


async def list_names(
    connection: Connection, *, below: int, contains: str | None, limit: int
) -> list[tuple[int, str]]:
    """Numbers and names, newest first; `contains`: a part of the name, in whatever case."""
    wanted = None if contains is None else contains.lower()
    rows = await connection.fetch(_SQL["list_groups"], below, wanted, limit)
    return [(row[0], row[1]) for row in rows]


async def count_many(connection: Connection, names: Iterable[str]) -> dict[str, Group]:
    """Counts and times of those that have tasks, by name."""
    rows = await connection.fetch(_SQL["count_many"], list(names), list(INFRASTRUCTURE))
    rows.sort(key=_name)
    return {name: _group(name, list(some)) for name, some in groupby(rows, _name)}


def _name(row: Record) -> str:
    name: str = row[0]
    return name


def _group(name: str, rows: Collection[Record]) -> Group:
    """`rows`: one for each status."""
    open_ = any(row[4] is None for row in rows)
    return Group(
        name=name,
        counts={row[1]: row[2] for row in rows},
        infrastructure=sum(row[5] for row in rows),
        total=sum(row[2] for row in rows),
        submitted_at=min(row[3] for row in rows),
        finished_at=None if open_ else max(row[4] for row in rows),
        counted_at=next(row[6] for row in rows),
    )


async def list_slowest(connection: Connection, name: str, limit: int) -> list[int]:
    """Numbers of the tasks that run, or ran, the longest; the longest first."""
    return [row[0] for row in await connection.fetch(_SQL["list_slowest"], name, limit)]


async def find_last(connection: Connection, name: str) -> int | None:
    """The highest number of its tasks; None when it has none."""
    last: int | None = await connection.fetchval(_SQL["find_last"], name)
    return last


async def cancel_some(connection: Connection, of: Stretch, who: str) -> SomeCancelled | None:
    """Cancel the next tasks, as one; None when there are no more that have not ended."""
    rows = await connection.fetch(_SQL["cancel_some"], *of, AT_ONCE, who)
    last, asked_before = rows[0][:2]
    if last is None:
        return None
    changed = [row for row in rows if row[2] is not None]
    running = [row for row in changed if row[3] is not None]
    return SomeCancelled(
        last=last,
        moved=[row[2] for row in changed],
        cancelled=len(changed) - len(running),
        asked=len(running) + asked_before,
        sessions={row[3] for row in running},
    )


async def retry_some(
    connection: Connection,
    of: Stretch,
    status: Collection[FinalStatus],
    ended_before: datetime | None,
    who: str,
) -> SomeRetried | None:
    """Queue the next finished tasks again, as one; None when there are no more."""
    rows = await connection.fetch(_SQL["retry_some"], *of, AT_ONCE, list(status), ended_before, who)
    last = rows[0][0]
    if last is None:
        return None
    queued = [row for row in rows if row[1] is not None]
    return SomeRetried(
        last=last,
        moved=[row[1] for row in queued],
        queued=[Queued(*row[2:]) for row in queued],
    )
