"""Rows that are put into a server's tables by SQL, and taken out again.

A hundred thousand tasks take a second so, and the better part of a minute through the API. They
are copies of one that came through the API, which knows its lane from then on.
"""

from api.store import Connection

_QUEUE = """
INSERT INTO tasks (lane, priority, max_attempts, exclusive, command)
SELECT lane, priority, max_attempts, exclusive, command
FROM tasks CROSS JOIN generate_series(1, $2)
WHERE id = $1
"""

_FINISH = """
INSERT INTO tasks (
    lane, priority, max_attempts, exclusive, command, status, attempt, day, started_at,
    finished_at, reason, exit_code, run_s
)
SELECT lane, priority, max_attempts, exclusive, command, 'succeeded', 1,
    (now() AT TIME ZONE 'UTC')::date, now(), now(), 'exit', 0, 1
FROM tasks CROSS JOIN generate_series(1, $2)
WHERE id = $1
"""


async def queue_like(connection: Connection, task: int, count: int) -> None:
    """Add pending tasks at the end of the queue of this one."""
    await connection.execute(_QUEUE, task, count)


async def finish_like(connection: Connection, task: int, count: int) -> None:
    """Add copies of this task that succeeded."""
    await connection.execute(_FINISH, task, count)


async def settle(connection: Connection) -> None:
    """Do now what would else come in the middle of a measurement: statistics, vacuum, disk."""
    await connection.execute("VACUUM (ANALYZE) tasks")
    await connection.execute("CHECKPOINT")


async def clear(connection: Connection) -> None:
    """Take everything out, also what sessions hold: else it is queued again when they end."""
    await connection.execute("TRUNCATE tasks, attempts, log_chunks")
    await connection.execute("CHECKPOINT")
