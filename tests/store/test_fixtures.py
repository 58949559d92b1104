"""The databases that tests get are migrated, and nothing leaks from one test to the next."""

import asyncpg
import pytest


async def _lanes(connection: asyncpg.Connection) -> int:
    return int(await connection.fetchval("SELECT count(*) FROM lanes"))


@pytest.mark.parametrize("time", [1, 2])
async def test_a_connection_is_rolled_back(connection: asyncpg.Connection, time: int) -> None:
    """Whichever of the two runs second sees nothing of the first."""
    before = await _lanes(connection)
    await connection.execute("INSERT INTO lanes (needs) VALUES (ARRAY['leak'])")
    assert await _lanes(connection) == before + 1, time


@pytest.mark.parametrize("time", [1, 2])
async def test_a_database_is_fresh(database_url: str, time: int) -> None:
    """Commits are seen by the next connection, and by no other test."""
    for expected in (0, 1):
        connection = await asyncpg.connect(database_url)
        leaked = "SELECT count(*) FROM lanes WHERE needs = ARRAY['leak']"
        assert await connection.fetchval(leaked) == expected, time
        await connection.execute(
            "INSERT INTO lanes (needs) VALUES (ARRAY['leak']) ON CONFLICT DO NOTHING"
        )
        await connection.close()
