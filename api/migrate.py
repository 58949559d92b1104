"""Bring the database to this version: numbered .sql files, forward only."""

import hashlib
from importlib.resources import files
from typing import NamedTuple

import asyncpg

_LOCK = 0x6477_6D69  # "dwmi"
_OLDEST = 15


class MigrationError(Exception):
    """The database cannot be brought to this version."""


class Migration(NamedTuple):
    """One file of `schema/migrations`."""

    version: int
    name: str
    sql: str
    checksum: str


def migrations() -> list[Migration]:
    """All files, in their order."""
    found = []
    for file in files("schema").joinpath("migrations").iterdir():
        if file.name.endswith(".sql"):
            sql = file.read_text("utf-8")
            number = int(file.name.partition("_")[0])
            found.append(
                Migration(number, file.name, sql, hashlib.sha256(sql.encode()).hexdigest())
            )
    found.sort()
    if [each.version for each in found] != list(range(1, len(found) + 1)):
        raise MigrationError("schema/migrations: numbers must run from 1 without a gap")
    return found


async def migrate(connection: asyncpg.Connection) -> list[str]:
    """Apply what is missing, one transaction a file; wait for whoever else is at it.

    Returns the names of the files applied. MigrationError when the server is too old, when a file
    that was applied has changed since, or when the database is newer than this program.
    """
    if connection.get_server_version().major < _OLDEST:
        raise MigrationError(
            f"PostgreSQL {connection.get_server_version().major} is too old: "
            f"version {_OLDEST} or newer is needed"
        )
    known = migrations()
    applied: list[str] = []
    await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
    try:
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations (version integer PRIMARY KEY,"
            " name text NOT NULL, checksum text NOT NULL,"
            " applied_at timestamptz NOT NULL DEFAULT now())"
        )
        rows = await connection.fetch("SELECT version, name, checksum FROM schema_migrations")
        done = {row["version"]: row for row in rows}
        if newer := done.keys() - {each.version for each in known}:
            raise MigrationError(
                f"the database is at version {max(newer)}, this program knows {len(known)}:"
                " upgrade it"
            )
        for each in known:
            if each.version in done:
                if done[each.version]["checksum"] != each.checksum:
                    raise MigrationError(f"{each.name} was applied and has changed since")
                continue
            async with connection.transaction():
                await connection.execute(each.sql)
                await connection.execute(
                    "INSERT INTO schema_migrations (version, name, checksum) VALUES ($1, $2, $3)",
                    each.version,
                    each.name,
                    each.checksum,
                )
            applied.append(each.name)
    finally:
        await connection.execute("SELECT pg_advisory_unlock($1)", _LOCK)
    return applied
