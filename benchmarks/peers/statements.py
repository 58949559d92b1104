"""Single statements to the benchmark's PostgreSQL, to prepare and to check."""

import asyncpg


async def value(dsn: str, statement: str, *arguments: object) -> int:
    """Run a statement on a connection of its own; the number that it returns, 0 if none."""
    connection = await asyncpg.connect(dsn)
    try:
        found: int | None = await connection.fetchval(statement, *arguments)
        return found or 0
    finally:
        await connection.close()
