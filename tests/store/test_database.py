"""Connections that are kept while there is work."""

import asyncio

from api.database import Database


async def test_a_kept_connection_is_borrowed_once_until_it_is_given_back(
    database_url: str,
) -> None:
    """Borrowing takes 33 µs a time; kept for ever it would be missing to all others."""
    async with Database(database_url, pool_size=4) as database:
        kept = database.kept()
        first = await (await kept.get()).fetchval("SELECT pg_backend_pid()")
        assert await (await kept.get()).fetchval("SELECT pg_backend_pid()") == first
        await kept.give_back()
        await kept.give_back()  # again does nothing
        async with database.acquire() as connection:
            assert await connection.fetchval("SELECT pg_backend_pid()") == first


async def test_a_broken_connection_is_not_kept(database_url: str) -> None:
    """PostgreSQL was restarted: the next statement must have a new one."""
    async with Database(database_url, pool_size=4) as database:
        kept = database.kept()
        broken = await kept.get()
        first = await broken.fetchval("SELECT pg_backend_pid()")
        broken.terminate()
        await kept.give_back()
        assert await (await kept.get()).fetchval("SELECT pg_backend_pid()") != first
        await kept.give_back()


async def test_checks_at_one_time_take_one_connection(database_url: str) -> None:
    """Anybody may ask whether a server is ready: claims must not wait for who does so in a loop."""
    async with Database(database_url, pool_size=12) as database:
        await asyncio.gather(*(database.check(5) for _ in range(100)))
        connection = await database.connect()
        try:
            opened = await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1"
                " AND datname = current_database()",
                "distributed-worker",
            )
        finally:
            await connection.close()
        assert opened == 1
