"""Keys that the servers of one database share."""

from api.sql import load
from api.store import Connection

_SQL = load("keys")


async def lease_key(connection: Connection) -> bytes:
    """The key that signs leases."""
    return bytes(await connection.fetchval(_SQL["lease_key"]))
