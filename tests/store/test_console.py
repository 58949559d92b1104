"""What the console's pages show beyond single tasks."""

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from api.console.throughput import Throughput
from api.database import Database
from api.store import console as store
from api.store import sessions as session_store
from schema.tasks import Status
from tests.store import support


async def test_queues_are_those_with_the_most_first(connection: asyncpg.Connection) -> None:
    """And say who could take from them: a queue that nobody takes from is why a night stands."""
    for needs, count in (("console-few", 2), ("console-many", 5)):
        for _ in range(count):
            await support.submit(connection, needs=(needs,))
    for name, drains in (("takes", False), ("drains", True)):
        session = await support.session(connection, name)
        await connection.execute(
            "UPDATE sessions SET labels = '{console-few}', slots = 3, drain = $2 WHERE id = $1",
            session, drains,
        )  # fmt: skip
    queues = [
        each for each in await store.list_queues(connection, 1000) if "console" in str(each.needs)
    ]
    assert queues == [
        store.Queue(("console-many",), 5, 0, 0),
        store.Queue(("console-few",), 2, 1, 3),
    ]
    assert len(await store.list_queues(connection, 1)) == 1


async def test_what_an_agent_runs_is_shown_in_part(connection: asyncpg.Connection) -> None:
    """An agent of a thousand slots has a page that can be read."""
    session = await support.session(connection, "of many slots")
    tasks = [
        await support.running(connection, session, needs="console-held", name=f"run {n}")
        for n in range(3)
    ]
    agents = {each.session: each for each in await store.list_agents(connection, 1000, 2)}
    agent = agents[session]
    assert agent.running == 3
    assert [held.id for held in agent.held] == [task.id for task in tasks[:2]]
    assert agent.held[0].called == "run 0"
    slots = await store.count_slots(connection)
    await session_store.end_session(connection, session, "closed")
    after = await store.count_slots(connection)
    assert (after.agents, after.slots) == (slots.agents - 1, slots.slots - agent.slots)
    gone = await store.list_gone(connection, 1)
    assert (gone[0].agent, gone[0].reason) == ("of many slots", "closed")


async def test_the_last_hour_is_counted_once(database_url: str) -> None:
    """A minute that is long over is not read again, and keeps what it had."""
    now = datetime(2026, 5, 17, 12, 0, 50, tzinfo=UTC)
    async with Database(database_url, 4) as database:
        throughput = Throughput(database, lambda: now)
        connection = await asyncpg.connect(database_url)
        try:
            await _ended(connection, now - timedelta(minutes=61), "failed")
            await _ended(connection, now - timedelta(minutes=30), "failed")
            await _ended(connection, now - timedelta(seconds=5), "succeeded")
            minute = now.replace(second=0)
            old = (now - timedelta(minutes=30)).replace(second=0)
            assert await throughput.look() == {minute: {"succeeded": 1}, old: {"failed": 1}}
            await connection.execute("DELETE FROM tasks WHERE status = 'failed'")
            now += timedelta(seconds=5)
            await _ended(connection, now, "succeeded")
            assert await throughput.look() == {minute: {"succeeded": 2}, old: {"failed": 1}}
            now += timedelta(minutes=1)
            await _ended(connection, minute + timedelta(seconds=59), "cancelled")  # commits late
            assert await throughput.look() == {
                minute: {"succeeded": 2, "cancelled": 1}, old: {"failed": 1},
            }  # fmt: skip
            now += timedelta(minutes=31)
            assert await throughput.look() == {minute: {"succeeded": 2, "cancelled": 1}}
        finally:
            await connection.close()


async def _ended(connection: Any, at: datetime, status: Status) -> None:
    number = await support.submit(connection)
    await connection.execute(
        "UPDATE tasks SET status = $2, finished_at = $3, reason = 'exit' WHERE id = $1",
        number, status, at,
    )  # fmt: skip
