"""Lanes: the sets of tasks with the same needs."""

from collections.abc import Iterable

from api.sql import load
from api.store import Connection

_SQL = load("lanes")

Needs = tuple[str, ...]
"""Labels, sorted, each once."""


async def all_lanes(connection: Connection) -> dict[Needs, int]:
    """Every lane's number by its needs."""
    return {tuple(row["needs"]): row["id"] for row in await connection.fetch(_SQL["all_lanes"])}


async def add_lanes(connection: Connection, lanes: Iterable[Needs]) -> None:
    """Make the lanes that are missing."""
    await connection.execute(_SQL["add_lanes"], [",".join(needs) for needs in lanes])
