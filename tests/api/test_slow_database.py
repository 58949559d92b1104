"""PostgreSQL answers no more, or its connections are cut: who asks waits within bounds."""

import asyncio

import asyncpg
import pytest

from api import database as module
from tests.api.conftest import StartApi
from tests.api.server import Api, Reply, exited

_NOTHING_TAKEN = {b'{"tasks":[]}', b"null"}  # of claims that a newer one ended, and pulls
_WITHIN_S = 15.0  # the bounds below, twice, on a busy machine


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the bounds: they are half a minute."""
    monkeypatch.setattr(module, "_ACQUIRE_S", 0.5)
    monkeypatch.setattr(module, "_READ_S", 1.0)
    monkeypatch.setattr(module, "_STATEMENT_S", 1.5)


async def _all_routes(api: Api, session: str, lease: str) -> list[Reply]:
    """Ask for everything that needs the table of tasks, more often than there are connections."""
    requests = [
        request
        for number in range(6)
        for request in (
            api.post("/tasks", {"command": "true", "needs": ["x"], "key": f"slow-{number}"}),
            api.post("/claims", {"session": session, "slots": 1, "wait": 0}),
            api.post("/reports", {"session": session, "results": [exited(lease)]}),
            api.post("/beats", {"session": session, "held": []}),
            api.call("POST", "/tasks/pull"),
            api.call("GET", "/tasks"),
        )
    ]
    async with asyncio.timeout(_WITHIN_S):
        return await asyncio.gather(*requests)


async def test_a_database_that_does_not_answer_costs_waiting_only(
    impatient: None, start_api: StartApi, database: asyncpg.Connection
) -> None:
    """Each request is answered in bounded time: done, or 503 with a time to come back."""
    async with start_api() as api:
        session, task = await api.started()
        async with database.transaction():
            await database.execute("LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE")
            replies = await _all_routes(api, session, task.lease)
        for reply in replies:
            if reply.body in _NOTHING_TAKEN:
                continue
            problem = reply.problem(503, "retry later")
            assert problem.retry_after
            assert int(reply.headers["retry-after"]) >= 1
        again = await _all_routes(api, session, task.lease)
        assert {reply.status for reply in again} <= {200, 201}
        assert await database.fetchval("SELECT count(*) FROM tasks WHERE key LIKE 'slow-%'") == 6
        assert (await api.task(task.id)).status == "succeeded"


async def test_connections_that_are_cut_are_made_anew(
    start_api: StartApi, database: asyncpg.Connection
) -> None:
    """A failover or an administrator ends all of them; nobody has to start anything again."""
    async with start_api() as api:
        session, task = await api.started()
        for _ in range(3):
            await database.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            statuses = {reply.status for reply in await _all_routes(api, session, "")}
            assert statuses <= {200, 201, 503}
        assert await api.report(session, [], [exited(task.lease)]) == ["ok"]
        waiting = asyncio.ensure_future(api.claim(session, wait=20))
        # The connection that listens is back, too: nobody tells of this but the database.
        async with start_api() as other:
            number = await other.submit(needs=[])
            assert [each.id for each in await waiting] == [number]
        assert (await api.beat(session)).lease_s > 0
