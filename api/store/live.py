"""What viewers of live logs look at, many at a time."""

from collections.abc import Iterable, Sequence
from datetime import date, datetime

from msgspec import Struct

from api.sql import load
from api.store import Connection
from api.store.logs import ChunkKey, StoredChunk
from schema.tasks import Reason, Status

_SQL = load("live")

LOOKED_AT = 256
"""Chunks of a stream that one look sees at most."""

Extent = tuple[int, int, int]
"""(position, bytes, lines) of a chunk"""


NO_DAY = date.min
"""Of tasks whose chunks are not asked for."""


class Ask(Struct, frozen=True, gc=False):
    """One watched task, and how much of its log is known."""

    task: int
    day: date
    attempt: int
    """Whose chunks are asked for; 0: none."""
    stdout: int
    """Position of the last chunk that is known; -1: none is."""
    stderr: int


class Seen(Struct, frozen=True):
    """A watched task as it is now."""

    stdout: tuple[Extent, ...]
    """Chunks behind the known ones."""
    stderr: tuple[Extent, ...]
    task: int
    status: Status
    attempt: int
    agent: str | None
    cancel_requested: bool
    reason: Reason | None
    run_after: datetime | None
    started_at: datetime | None
    session: int | None
    exit_code: int | None
    signal: int | None
    message: str | None
    finished_at: datetime | None
    run_s: float | None
    over_s: float | None
    """Seconds since it ended."""


class Member(Struct, frozen=True, gc=False):
    """A task of a group."""

    task: int
    status: Status
    attempt: int
    cancel_requested: bool


async def look_many(connection: Connection, asked: Iterable[Ask]) -> list[Seen]:
    """Look at tasks, once for each day; those that do not exist are left out."""
    days: dict[date, list[Ask]] = {}
    for each in asked:
        days.setdefault(each.day, []).append(each)
    rows = [
        tuple(row)
        for day, some in days.items()
        for row in await connection.fetch(
            _SQL["look_many"],
            [each.task for each in some],
            [each.attempt for each in some],
            [each.stdout for each in some],
            [each.stderr for each in some],
            LOOKED_AT,
            day,
        )
    ]
    return [Seen(_extents(*row[15:18]), _extents(*row[18:]), *row[:15]) for row in rows]


def _extents(positions: list[int] | None, sizes: list[int], lines: list[int]) -> tuple[Extent, ...]:
    return () if positions is None else tuple(zip(positions, sizes, lines, strict=True))


async def read_many(
    connection: Connection, keys: Sequence[ChunkKey]
) -> dict[ChunkKey, StoredChunk]:
    """Those of the chunks that are stored."""
    found: dict[ChunkKey, StoredChunk] = {}
    for day in {key[0] for key in keys}:
        columns = zip(*(key[1:] for key in keys if key[0] == day), strict=True)
        for row in await connection.fetch(_SQL["read_many"], day, *map(list, columns)):
            found[row[0], row[1], row[2], row[3], row[4]] = StoredChunk(*tuple(row)[4:])
    return found


async def group_members(connection: Connection, name: str, above: int, most: int) -> list[Member]:
    """Tasks of a group with larger numbers than `above`, in their order."""
    rows = await connection.fetch(_SQL["group_members"], name, above, most)
    return [Member(*row) for row in rows]
