"""One function per database operation, the connection first; rows leave as Structs."""

from typing import TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy
from asyncpg.transaction import Transaction

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"


def one_moment(connection: Connection) -> Transaction:
    """A transaction whose statements all see the same: what is committed meanwhile is left out."""
    return connection.transaction(isolation="repeatable_read", readonly=True)
