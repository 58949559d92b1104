"""Tokens and the audit in the database."""

import asyncio
from datetime import timedelta

import asyncpg
import pytest

from api.store import audit, sessions
from api.store import tasks as task_store
from api.store import tokens as store
from api.store.tokens import TokenConflictError
from schema.audit import AuditEntry
from schema.sessions import SessionOpen
from schema.tasks import Submission
from tests.store.support import submit, submit_all


def _digest(number: int) -> bytes:
    return number.to_bytes(32, "big")


async def _make(connection: asyncpg.Connection, number: int, name: str, role: str) -> None:
    await store.make(
        connection, _digest(number), name, role, "root",  # type: ignore[arg-type]  # any role
        others_admin=True,
    )  # fmt: skip


async def _audit(connection: asyncpg.Connection) -> list[tuple[object, ...]]:
    entries = await audit.list_entries(connection, 2**63 - 1, 100)
    return [(each.who, each.action, each.task, each.tasks, each.about) for each in entries]


async def test_processes_learn_what_has_changed(connection: asyncpg.Connection) -> None:
    """First all that live; then, every few seconds, what was made or revoked meanwhile."""
    for number, role in enumerate(("admin", "read", "agent")):
        await _make(connection, number, f"t{number}", role)
    await store.revoke(connection, "t1", "root", others_admin=True)
    everything = await store.changed(connection, None)
    assert [(each.name, each.role, each.revoked) for each in everything] == [
        ("t0", "admin", False),
        ("t2", "agent", False),
    ]
    assert everything[0].digest == _digest(0)
    await connection.execute(
        "UPDATE tokens SET created_at = now() - interval '1 hour' WHERE name IN ('t0', 't1')"
    )
    lately = await store.changed(connection, 60)
    assert {(each.name, each.revoked) for each in lately} == {("t1", True), ("t2", False)}


async def test_there_are_only_so_many_tokens(
    connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every worker keeps all of them in memory."""
    monkeypatch.setattr(store, "MOST", 2)
    await _make(connection, 1, "one", "read")
    await _make(connection, 2, "two", "read")
    with pytest.raises(TokenConflictError, match="there are 2 tokens"):
        await _make(connection, 3, "three", "read")
    await store.revoke(connection, "one", "root", others_admin=True)
    await _make(connection, 3, "three", "read")


async def test_two_admins_that_revoke_each_other_leave_one(
    pair: tuple[asyncpg.Connection, asyncpg.Connection],
) -> None:
    """At the same time each sees the other alive; with none left a loopback server would open."""
    one, other = pair
    await _make(one, 1, "alice", "admin")
    await _make(one, 2, "bob", "admin")

    async def revoke(connection: asyncpg.Connection, name: str) -> bool:
        try:
            await store.revoke(connection, name, "root", others_admin=False)
        except TokenConflictError:
            return False
        return True

    async with asyncio.TaskGroup() as group:
        tries = [
            group.create_task(revoke(one, "alice")),
            group.create_task(revoke(other, "bob")),
        ]
    assert sorted(each.result() for each in tries) == [False, True]
    assert len(await store.changed(one, None)) == 1


async def test_a_revoked_tokens_sessions_end(connection: asyncpg.Connection) -> None:
    """Those of others, and those that ended before, stay as they are."""
    await _make(connection, 1, "stolen", "agent")
    numbers = [
        await sessions.open_session(connection, f"s{place}", SessionOpen(agent="a"), token)
        for place, token in enumerate(("stolen", "stolen", "other", None))
    ]
    await sessions.end_session(connection, numbers[0], "closed")
    await store.revoke(connection, "stolen", "root", others_admin=True)
    rows = await connection.fetch(
        "SELECT end_reason FROM sessions WHERE id = ANY ($1::bigint[]) ORDER BY id", numbers
    )
    assert [row[0] for row in rows] == ["closed", "revoked", None, None]


async def test_use_is_noted_once_a_minute(connection: asyncpg.Connection) -> None:
    """Whichever process writes, and however many do."""
    await _make(connection, 1, "used", "read")
    (row,) = await store.changed(connection, None)
    for ago_s, written in ((30, False), (51, True)):
        then = await connection.fetchval(
            "UPDATE tokens SET used_at = now() - $1::interval RETURNING used_at",
            timedelta(seconds=ago_s),
        )
        await store.note_used(connection, [row.id])
        assert (await connection.fetchval("SELECT used_at FROM tokens") != then) is written


async def test_people_are_noted_with_what_they_do(connection: asyncpg.Connection) -> None:
    """In the same transaction: what is not noted did not happen, and the other way round."""
    await connection.execute("SELECT setval('queue_seq', 1)")
    three = await submit_all(connection, [Submission(command="x") for _ in range(3)])
    one = await submit(connection)
    await task_store.cancel(connection, one, "alice")
    await task_store.cancel(connection, one, "alice")  # it is over: nothing is done
    await task_store.retry(connection, one, 7, "bob")  # no such attempt
    await task_store.retry(connection, one, None, "bob")
    await sessions.open_session(connection, "s", SessionOpen(agent="wall"), None)
    await sessions.drain_agent(connection, "wall", "carol")
    await sessions.drain_agent(connection, "nobody", "carol")
    await _make(connection, 1, "dora", "read")
    await store.revoke(connection, "dora", "alice", others_admin=True)
    await store.revoke(connection, "dora", "alice", others_admin=True)
    assert await _audit(connection) == [
        ("alice", "token revoked", None, None, "dora (read)"),
        ("root", "token made", None, None, "dora (read)"),
        ("carol", "agent drained", None, None, "wall"),
        ("bob", "task retried", one, 1, None),
        ("alice", "task cancelled", one, 1, None),
        ("tester", "tasks submitted", one, 1, None),
        ("tester", "tasks submitted", three[0].id, 3, None),
    ]


async def test_a_submission_that_stores_nothing_is_not_noted(
    connection: asyncpg.Connection,
) -> None:
    """Sent again after a lost reply, it would look like two; of a mixed one the new ones count."""
    both = [Submission(command="x", key=f"audit {number}") for number in range(2)]
    first = await submit_all(connection, both[:1])
    await submit_all(connection, both[:1])
    second = await submit_all(connection, both)
    assert await _audit(connection) == [
        ("tester", "tasks submitted", second[1].id, 1, None),
        ("tester", "tasks submitted", first[0].id, 1, None),
    ]


async def test_the_audit_cannot_be_changed(connection: asyncpg.Connection) -> None:
    """Nor by our own mistake: PostgreSQL refuses."""
    await audit.add_entry(connection, "alice", "logged in")
    for statement in (
        "UPDATE audit SET who = 'bob'",
        "DELETE FROM audit",
        "TRUNCATE audit",
    ):
        with pytest.raises(asyncpg.RaiseError, match="append-only"):
            async with connection.transaction():
                await connection.execute(statement)
    assert await _audit(connection) == [("alice", "logged in", None, None, None)]


async def test_retention_takes_the_old_alone(connection: asyncpg.Connection) -> None:
    """From its oldest end, in bounded steps."""
    await connection.execute(
        "INSERT INTO audit (who, action, at)"
        " SELECT n::text, 'x', now() - make_interval(days => 30 - n)"
        " FROM generate_series(0, 29) AS n"
    )
    assert await audit.drop_entries(connection, 10) == 20
    assert await audit.drop_entries(connection, 10) == 0
    kept = await audit.list_entries(connection, 2**63 - 1, 100)
    assert [each.who for each in kept] == [str(number) for number in range(29, 19, -1)]


async def test_the_audit_is_read_page_by_page(connection: asyncpg.Connection) -> None:
    """Newest first; what comes meanwhile does not shift the pages."""
    for name in ("a", "b", "c", "d"):
        await audit.add_entry(connection, name, "logged in")
    first: list[AuditEntry] = await audit.list_entries(connection, 2**63 - 1, 2)
    await audit.add_entry(connection, "e", "logged in")
    second = await audit.list_entries(connection, first[-1].id, 2)
    assert [each.who for each in (*first, *second)] == ["d", "c", "b", "a"]


async def test_submissions_of_the_last_minute_are_counted(connection: asyncpg.Connection) -> None:
    """Of one token, whatever others do. The wait ends when the oldest that counts is too old."""
    await connection.execute(
        "INSERT INTO audit (who, action, at)"
        " SELECT 'alice', 'tasks submitted', clock_timestamp() - make_interval(secs => 10 * n)"
        " FROM generate_series(9, 1, -1) AS n"
    )
    await audit.add_entry(connection, "alice", "logged in")
    assert await audit.submissions_left(connection, "bob", 1) == 0
    assert await audit.submissions_left(connection, "alice", 7) == 0  # 10 to 60 s ago: six
    assert await audit.submissions_left(connection, "alice", 5) == pytest.approx(10, abs=2)
    assert await audit.submissions_left(connection, "alice", 1) == pytest.approx(50, abs=2)
