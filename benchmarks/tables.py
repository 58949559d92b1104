"""What benchmarks do to the tables behind the API's back: make room, and count."""

from collections.abc import Sequence

import asyncpg

from benchmarks.server import BenchServer


async def clear_queue(server: BenchServer) -> None:
    """Drop what other benchmarks left unfinished: an agent would run it."""
    connection = await asyncpg.connect(server.dsn())
    try:
        await connection.execute("DELETE FROM tasks WHERE finished_at IS NULL")
        await connection.execute("VACUUM tasks")  # claims would walk over what is dead
    finally:
        await connection.close()


async def clear_logs(server: BenchServer) -> None:
    """Make room on the disk."""
    connection = await asyncpg.connect(server.dsn())
    try:
        await connection.execute("TRUNCATE log_chunks")
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()


async def count_chunks(server: BenchServer, tasks: Sequence[int]) -> int:
    """How many log chunks of these tasks are stored."""
    connection = await asyncpg.connect(server.dsn())
    try:
        found: int = await connection.fetchval(
            "SELECT count(*) FROM log_chunks WHERE task = ANY($1)", tasks
        )
        return found
    finally:
        await connection.close()
