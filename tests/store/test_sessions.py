"""Sessions: found by their secret alone, renewed together, dead for good."""

from datetime import timedelta

import asyncpg
import pytest

from api.store import keys
from api.store import sessions as store
from schema.sessions import Agent, SessionOpen
from tests.store.support import running, session


async def _silent_for(connection: asyncpg.Connection, number: int, seconds: float) -> None:
    await connection.execute(
        "UPDATE sessions SET seen_at = now() - $1::interval WHERE id = $2",
        timedelta(seconds=seconds), number,
    )  # fmt: skip


async def test_a_session_is_found_by_its_secret(connection: asyncpg.Connection) -> None:
    """The database keeps a digest only: who reads it cannot report in an agent's name."""
    request = SessionOpen(agent="pixel", labels=("a", "b"), slots=3, version="1")
    number = await store.open_session(connection, "the secret", request, "wall-3")
    (found,) = await store.find_many(connection, ["the secret"])
    assert found is not None
    assert (found.id, found.labels, found.ended) == (number, ("a", "b"), False)
    assert 0 <= found.age_s < 60
    assert await store.find_many(connection, ["another"]) == [None]
    row = await connection.fetchrow("SELECT * FROM sessions WHERE id = $1", number)
    assert row is not None
    assert not any("the secret" in str(value) for value in row.values())


async def test_the_age_counts_from_the_last_renewal(connection: asyncpg.Connection) -> None:
    """A reply tells only of a committed renewal: agents kill exclusive tasks by it."""
    await session(connection, "aged")
    (row,) = await store.find_many(connection, ["secret of aged"])
    assert row is not None
    await _silent_for(connection, row.id, 30)
    (aged,) = await store.find_many(connection, ["secret of aged"])
    assert aged is not None
    assert aged.age_s == pytest.approx(30, abs=1)
    assert await store.renew_many(connection, [row.id]) == {row.id: False}
    (renewed,) = await store.find_many(connection, ["secret of aged"])
    assert renewed is not None
    assert renewed.age_s < 1


async def test_only_the_silent_die_and_they_stay_dead(connection: asyncpg.Connection) -> None:
    """Death is terminal: what a dead session held may run elsewhere already."""
    dead, alive = await session(connection, "dead"), await session(connection, "alive")
    await _silent_for(connection, dead, 61)
    await _silent_for(connection, alive, 59)
    assert await store.end_lost(connection, 60) == [(dead, "dead")]
    assert await store.end_lost(connection, 60) == []
    assert await store.renew_many(connection, [dead, alive]) == {alive: False}
    (row,) = await store.find_many(connection, ["secret of dead"])
    assert row is not None
    assert row.ended


async def test_the_first_end_of_a_session_counts(connection: asyncpg.Connection) -> None:
    """A late goodbye of a lost session does not rewrite why it ended."""
    number = await session(connection, "twice")
    await store.end_session(connection, number, "closed")
    await store.end_session(connection, number, "replaced")
    reason = await connection.fetchval("SELECT end_reason FROM sessions WHERE id = $1", number)
    assert reason == "closed"


async def test_a_wish_to_drain_reaches_the_renewal(connection: asyncpg.Connection) -> None:
    """Every process that renews the session learns of it."""
    number = await session(connection, "draining")
    await connection.execute("UPDATE sessions SET drain = true WHERE id = $1", number)
    assert await store.renew_many(connection, [number]) == {number: True}


async def test_all_live_sessions_of_a_name_are_asked_to_drain(
    connection: asyncpg.Connection,
) -> None:
    """Two agents may share a name; a dead session has nobody to ask."""
    one, dead, other = [
        await store.open_session(connection, f"wall {number}", SessionOpen(agent="wall"), None)
        for number in range(3)
    ]
    await store.end_session(connection, dead, "closed")
    bystander = await session(connection, "wall-2")
    assert await store.drain_agent(connection, "wall", "tester") == [one, other]
    assert await store.drain_agent(connection, "wall", "tester") == [one, other]
    assert await store.drain_agent(connection, "nobody", "tester") == []
    alive = await store.renew_many(connection, [one, dead, other, bystander])
    assert alive == {one: True, other: True, bystander: False}
    listed = await store.list_sessions(connection, ended=True, name="wall")
    assert [agent.drain for agent in listed] == [True, False, True]


async def test_the_list_counts_what_runs(connection: asyncpg.Connection) -> None:
    """Newest first; those that ended only when they are asked for."""
    first, second = await session(connection, "first"), await session(connection, "second")
    await running(connection, first, needs="list-sessions")
    await store.end_session(connection, second, "closed")
    assert [(agent.agent, agent.running) for agent in await _list(connection)] == [("first", 1)]
    listed = await _list(connection, ended=True)
    assert [(agent.agent, agent.alive) for agent in listed] == [("second", False), ("first", True)]
    assert listed[0].ended_at is not None


async def _list(connection: asyncpg.Connection, *, ended: bool = False) -> list[Agent]:
    agents = await store.list_sessions(connection, ended=ended)
    return [agent for agent in agents if agent.agent in {"first", "second"}]


async def test_the_lease_key_is_long_and_stays(connection: asyncpg.Connection) -> None:
    """All servers of a database sign with it; a short one could be guessed."""
    key = await keys.lease_key(connection)
    assert len(key) == 32
    assert await keys.lease_key(connection) == key
