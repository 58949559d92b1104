"""PostgreSQL is killed while agents work: 503 until it is back, and nothing is lost."""

import os
import signal
from pathlib import Path

import asyncpg

from api.migrate import migrate
from api.postgres import EmbeddedPostgres
from api.settings import Settings
from tests.api.server import Api, chunk, eventually, exited, serving


async def test_a_killed_database_comes_back_and_has_all_that_was_acknowledged(
    short_folder: Path,
) -> None:
    """Kill -9 of PostgreSQL: whoever asks meanwhile is told to come back, by a problem."""
    postgres = EmbeddedPostgres(short_folder / "data", durable=False)
    url = postgres.start()
    try:
        connection = await asyncpg.connect(url)
        await migrate(connection)
        await connection.close()
        async with serving(short_folder, Settings(database_url=url, pool_size=4)) as api:
            await _outage(api, postgres)
    finally:
        postgres.stop()


async def _outage(api: Api, postgres: EmbeddedPostgres) -> None:
    session, task = await api.started()
    assert await api.report(session, [chunk(task.lease, b"before\n")]) == ["ok"]
    waits = await api.submit()
    killed = postgres.pid
    assert killed is not None
    os.kill(killed, signal.SIGKILL)

    ready = await api.call("GET", "/health/ready")
    assert ready.status == 200 or "log says why" in ready.problem(503).detail

    async def pid() -> int | None:
        return postgres.pid

    async def submitted() -> int:
        """The status of a submission; while it is refused, as a problem with a time."""
        reply = await api.post("/tasks", {"command": "x", "key": "once", "needs": ["nobody"]})
        if reply.status != 201:
            problem = reply.problem(503, "retry later")
            assert problem.retry_after
            assert int(reply.headers["retry-after"]) >= 1
        return reply.status

    await eventually(pid, lambda new: new not in {None, killed}, 60)
    await eventually(submitted, lambda status: status == 201, 60)
    assert (await api.task(waits)).status == "pending"
    assert await api.log(task.id) == "before\n"
    more = [chunk(task.lease, b"after\n", offset=7)]
    assert await api.report(session, more, [exited(task.lease)]) == ["ok", "ok"]
    assert await api.log(task.id) == "before\nafter\n"
    # Loops that listen, renew and reap are at work again.
    next_one = await api.submit(needs=["after-outage"])
    agent = await api.open("after-outage")
    assert [each.id for each in await api.claim(agent, wait=20)] == [next_one]
