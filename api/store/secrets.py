"""Secrets of tasks, sealed: nothing here can read them."""

from collections.abc import Iterable, Mapping

from api.sql import load
from api.store import Connection

_SQL = load("secrets")


async def put_many(connection: Connection, sealed: Mapping[int, bytes]) -> None:
    """Store them by their tasks' numbers."""
    await connection.execute(_SQL["put_many"], list(sealed), list(sealed.values()))


async def get_many(connection: Connection, tasks: Iterable[int]) -> dict[int, bytes]:
    """Those that are there, by their tasks' numbers."""
    return dict(map(tuple, await connection.fetch(_SQL["get_many"], list(tasks))))


async def drop_expired(connection: Connection, days: int) -> int:
    """Remove those of tasks that ended so many days ago, at most 1,000; how many."""
    return len(await connection.fetch(_SQL["drop_expired"], days))
