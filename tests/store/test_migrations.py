"""Migrations: forward only, each once, under a lock, and equal to the committed dump."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from api import migrate as module
from api.migrate import Migration, MigrationError, migrate, migrations
from tests.store.schema_dump import dump

_DUMP = Path(__file__).parents[2] / "schema" / "schema.sql"


@pytest.fixture
async def empty(connection: asyncpg.Connection) -> asyncpg.Connection:
    """Connect where nothing was migrated: everything is dropped, and comes back by rollback."""
    await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    return connection


async def test_the_migrations_make_what_the_dump_says(database_url: str) -> None:
    """Reviewers read the dump; a migration that makes something else must not pass unseen."""
    connection = await asyncpg.connect(database_url)
    version = connection.get_server_version().major
    await connection.close()
    if version != 18:
        pytest.skip(f"the dump is PostgreSQL 18's, this server is {version}")
    made = await asyncio.to_thread(dump, database_url)
    assert made == _DUMP.read_text("utf-8"), "run `just schema` and look at what changed"


async def test_each_migration_runs_once(empty: asyncpg.Connection) -> None:
    """Every server migrates when it starts."""
    assert await migrate(empty) == [each.name for each in migrations()]
    assert await migrate(empty) == []


async def test_numbers_run_from_one_without_a_gap() -> None:
    """Two branches that both add number 7 must not be merged unseen."""
    assert [each.version for each in migrations()] == list(range(1, len(migrations()) + 1))


async def test_a_changed_migration_is_refused(
    empty: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The databases out there have the old one: only a new file changes them."""
    await migrate(empty)
    changed = [each._replace(checksum="0" * 64) for each in migrations()]
    monkeypatch.setattr(module, "migrations", lambda: changed)
    with pytest.raises(MigrationError, match="has changed since"):
        await migrate(empty)


async def test_a_newer_database_is_refused(empty: asyncpg.Connection) -> None:
    """An old server over a new schema would write nonsense."""
    await migrate(empty)
    await empty.execute("INSERT INTO schema_migrations VALUES (9999, 'later', '')")
    with pytest.raises(MigrationError, match="9999"):
        await migrate(empty)


async def test_a_failed_migration_leaves_nothing(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a migration could neither go on nor back; and the lock must not stay."""
    broken = Migration(
        len(migrations()) + 1, "broken.sql", "CREATE TABLE half (); SELECT 1 / 0", "x"
    )
    monkeypatch.setattr(module, "migrations", lambda: [*_known, broken])
    connection = await asyncpg.connect(database_url)
    try:
        with pytest.raises(asyncpg.DivisionByZeroError):
            await migrate(connection)
        assert await connection.fetchval("SELECT to_regclass('half')") is None
        done = await connection.fetchval("SELECT max(version) FROM schema_migrations")
        assert done == len(_known)
        locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = $1"
        assert await connection.fetchval(locks, connection.get_server_pid()) == 0
    finally:
        await connection.close()


_known = migrations()


async def test_two_servers_that_start_at_once_migrate_once(database_url: str) -> None:
    """One waits for the other; returning at once would serve an empty database."""
    connections = [await asyncpg.connect(database_url) for _ in range(2)]
    try:
        await connections[0].execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        async with asyncio.TaskGroup() as group:
            runs = [group.create_task(migrate(connection)) for connection in connections]
        applied = sorted((run.result() for run in runs), key=len)
        assert applied == [[], [each.name for each in _known]]
    finally:
        for connection in connections:
            await connection.close()
