"""What people look at in groups."""

from msgspec import Struct

from api.sql import load
from api.store import Connection
from schema.tasks import Status

_SQL = load("live")


class Member(Struct, frozen=True, gc=False):
    """A task of a group."""

    task: int
    status: Status
    attempt: int
    cancel_requested: bool


async def group_members(connection: Connection, name: str, above: int, most: int) -> list[Member]:
    """Tasks of a group with larger numbers than `above`, in their order."""
    rows = await connection.fetch(_SQL["group_members"], name, above, most)
    return [Member(*row) for row in rows]
