"""The hot statements use the indexes that were made for them, at a size where it matters."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest

from api.database import KEPT_PLANS
from api.sql import load

_LANE = 1_000_001


_FILL = f"""
    INSERT INTO tasks (lane, priority, max_attempts, exclusive, command, status, session,
        started_at, day, finished_at, reason, group_name, key, key_digest, run_after)
    SELECT {_LANE} + n % 10, 5, 1, false, 'true', s.status,
        CASE s.status WHEN 'in_progress' THEN n % 100 END,
        CASE WHEN s.status NOT IN ('pending', 'scheduled') THEN now() END,
        CASE WHEN s.status NOT IN ('pending', 'scheduled') THEN date '2026-05-17' END,
        CASE s.status WHEN 'succeeded' THEN now() END,
        CASE s.status WHEN 'succeeded' THEN 'exit' END,
        'group ' || n % 1000, 'key ' || n, '', CASE s.status WHEN 'scheduled' THEN now() END
    FROM generate_series(1, 30000) AS n
    CROSS JOIN LATERAL (SELECT CASE
        WHEN n % 20 < 5 THEN 'pending' WHEN n % 20 = 5 THEN 'in_progress'
        WHEN n % 20 = 6 THEN 'scheduled' ELSE 'succeeded' END AS status) AS s;
    INSERT INTO attempts (task, attempt, started_at, finished_at, day, reason)
    SELECT n, 1, now(), now(), '2026-05-17', 'exit' FROM generate_series(1, 10000) AS n;
    CREATE TABLE log_chunks_20260517 PARTITION OF log_chunks
        FOR VALUES FROM ('2026-05-17') TO ('2026-05-18');
    CREATE TABLE log_chunks_20260518 PARTITION OF log_chunks
        FOR VALUES FROM ('2026-05-18') TO ('2026-05-19');
    INSERT INTO log_chunks (day, task, attempt, stream, position, size, lines, crc, marks, content)
    SELECT '2026-05-17', n, 1, 1, 0, 1, 0, 0, '', '' FROM generate_series(1, 5000) AS n;
    ANALYZE tasks; ANALYZE attempts; ANALYZE log_chunks;
"""
"""30,000 tasks over 10 lanes, most of them over, and what belongs to them."""


@pytest.fixture(scope="module")
async def filled(shared_database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """Fill the tables in a transaction that is rolled back after the last test here."""
    connection = await asyncpg.connect(shared_database_url)
    try:
        await connection.transaction().start()
        await connection.execute(_FILL)
        yield connection
    finally:
        await connection.close()


@pytest.fixture
async def busy(filled: asyncpg.Connection) -> AsyncIterator[asyncpg.Connection]:
    """Roll back what one test did."""
    transaction = filled.transaction()
    await transaction.start()
    yield filled
    await transaction.rollback()


_FLOORS = f"ARRAY[{_LANE}], ARRAY[5]::smallint[], ARRAY[0]::bigint[]"
_ONE = "ARRAY[1]::{}[]"
_RESULT = """ARRAY[7]::bigint[], '[{"task": 7, "attempt": 1, "session": 1, "outcome": "failed"}]'"""
_DAY = "'2026-05-17'::date"
_ONES = "ARRAY[7]::bigint[], ARRAY[1], ARRAY[0]::bigint[], ARRAY[0]::bigint[]"
_KEYS = "ARRAY[7]::bigint[], ARRAY[1], ARRAY[1]::smallint[], ARRAY[0]::bigint[]"
_HOT = [
    ("claims", "claim_many", f"{_FLOORS}, ARRAY[1, 2]::bigint[], 9, 9",
     {"tasks_queue", "tasks_pkey"}),
    ("claims", "queue_heads", f"ARRAY[{_LANE}]", {"tasks_queue"}),
    ("claims", "held_by_many", "ARRAY[7]::bigint[]", {"tasks_held"}),
    ("claims", "redeliver", "7, ARRAY[7]::bigint[], 9", set()),  # by either index
    ("results", "finish_many", f"{_RESULT}, 5", {"tasks_pkey"}),
    ("results", "ended_before", "ARRAY[7]::bigint[], ARRAY[1], ARRAY[1]::bigint[], ARRAY['exit']",
     {"tasks_pkey", "attempts_pkey"}),
    ("results", "pulled_attempts", "ARRAY[7]::bigint[]", {"tasks_pkey", "attempts_pkey"}),
    ("tasks", "find_keys", "ARRAY['key 5']", {"tasks_key"}),
    ("groups", "count_many", "ARRAY['group 5'], ARRAY['agent_lost']", {"tasks_group"}),
    ("groups", "list_slowest", "'group 5', 5", {"tasks_group"}),
    ("groups", "find_last", "'group 5'", {"tasks_group"}),
    ("groups", "cancel_some", "'group 5', 0, 9999999, 1000, 'me'", {"tasks_group", "tasks_pkey"}),
    ("groups", "retry_some", "'group 5', 0, 9999999, 1000, ARRAY['succeeded'], NULL, 'me'",
     {"tasks_group", "tasks_pkey"}),
    ("tasks", "cancel", "7, 'tester'", {"tasks_pkey"}),
    ("tasks", "promote_due", "", {"tasks_due"}),
    ("tasks", "next_due", "", {"tasks_due"}),
    ("logs", "read_chunks", f"{_DAY}, 7, 1, 1::smallint, 0, 8", {"log_chunks_20260517_pkey"}),
    ("logs", "list_extents", f"{_DAY}, 7, 1, 1::smallint", {"log_chunks_20260517_pkey"}),
    ("logs", "list_times", f"{_DAY}, 7, 1, 1::smallint, 8", {"log_chunks_20260517_pkey"}),
    ("live", "look_many", f"{_ONES}, 256, {_DAY}", {"tasks_pkey", "log_chunks_20260517_pkey"}),
    ("live", "read_many", f"{_DAY}, {_KEYS}", {"log_chunks_20260517_pkey"}),
    ("explain", "find_task", "7", {"tasks_pkey", "attempts_pkey"}),
    ("explain", "list_takers", "ARRAY['x'], 1000", {"tasks_held"}),
    ("explain", "count_ahead", f"{_LANE}, 5::smallint, 9999999, 1000", {"tasks_queue"}),
    ("live", "group_members", "'group 5', 0, 100", {"tasks_group"}),
    ("console", "list_running", "12", {"tasks_held"}),
    ("console", "list_held", "ARRAY[7]::bigint[], 8", {"tasks_held"}),
]  # fmt: skip


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)


@pytest.mark.parametrize(
    ("file", "name", "arguments", "indexes"), _HOT, ids=[name for _, name, _, _ in _HOT]
)
@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
async def test_a_hot_statement_walks_its_index(
    busy: asyncpg.Connection, file: str, name: str, arguments: str, indexes: set[str], mode: str
) -> None:
    """Also as the generic plan that a prepared statement gets: it must not read the whole table.

    What is not in the list of indexes is not used, so a partition of another day is not opened.
    """
    await busy.execute(f"SET LOCAL plan_cache_mode = {mode}")
    await busy.execute(f"PREPARE {name} AS {load(file)[name]}")
    call = f"EXECUTE {name}({arguments})" if arguments else f"EXECUTE {name}"
    explained = await busy.fetchval(f"EXPLAIN (FORMAT JSON) {call}")
    await busy.execute(f"DEALLOCATE {name}")
    nodes = list(_nodes(json.loads(explained)[0]["Plan"]))
    scanned = {node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"}
    # One that is pruned when it starts is listed under "Subplans Removed" and not as a node.
    assert not scanned & {"tasks", "task_secrets", "log_chunks_20260517", "log_chunks_20260518"}, (
        explained
    )
    used = {node["Index Name"] for node in nodes if "Index Name" in node}
    assert indexes <= used, explained
    assert "log_chunks_20260518_pkey" not in used, explained


async def test_a_claim_reads_the_queue_in_its_order(busy: asyncpg.Connection) -> None:
    """Sorting a lane of a hundred thousand tasks for each claim would be the end of it."""
    explained = await busy.fetchval(
        f"EXPLAIN (FORMAT JSON) {load('claims')['claim_many']}",
        [_LANE, _LANE + 1], [5, 5], [0, 0], [1] * 16, 9, 9,
    )  # fmt: skip
    nodes = list(_nodes(json.loads(explained)[0]["Plan"]))
    (lock,) = [node for node in nodes if node["Node Type"] == "LockRows"]
    below = {node["Node Type"] for node in _nodes(lock)}
    assert below == {"LockRows", "Index Scan"}, explained


async def test_a_result_finds_its_task_by_number_whatever_the_statistics_say(
    busy: asyncpg.Connection,
) -> None:
    """Analyzed while nothing ran, the index of what is held looks empty, and is not for long."""
    await busy.execute("DELETE FROM tasks WHERE status = 'in_progress'")
    await busy.execute("ANALYZE tasks")
    await busy.execute("SET LOCAL plan_cache_mode = force_generic_plan")
    await busy.execute(f"PREPARE finish_all AS {load('results')['finish_many']}")
    explained = await busy.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE finish_all({_RESULT}, 5)")
    await busy.execute("DEALLOCATE finish_all")
    nodes = list(_nodes(json.loads(explained)[0]["Plan"]))
    used = {node["Index Name"] for node in nodes if "Index Name" in node}
    assert used == {"tasks_pkey", "task_secrets_pkey"}, explained


async def test_the_last_hour_is_found_without_the_years_before_it(
    busy: asyncpg.Connection,
) -> None:
    """The plot of the console looks at blocks in which something ended lately."""
    await busy.execute(
        "UPDATE tasks SET finished_at = now() - interval '1 year' WHERE reason = 'exit'"
    )
    await busy.execute("ANALYZE tasks")
    statement = load("console")["count_ended"].replace("$1", "now() - interval '1 hour'")
    explained = await busy.fetchval(f"EXPLAIN (FORMAT JSON) {statement}")
    nodes = list(_nodes(json.loads(explained)[0]["Plan"]))
    assert "tasks_ended" in {node.get("Index Name") for node in nodes}, explained


_OF_AGENTS = [
    *(each for each in _HOT if each[0] not in {"logs", "live", "explain", "groups", "console"}),
    ("sessions", "find_many", "ARRAY['x']::bytea[]", {"sessions_digest_key"}),
]


@pytest.mark.parametrize(
    ("file", "name", "arguments", "indexes"), _OF_AGENTS, ids=[name for _, name, _, _ in _OF_AGENTS]
)
@pytest.mark.parametrize("analyzed", [False, True])
async def test_a_plan_made_on_the_first_day_does_not_read_whole_tables(
    database_url: str, file: str, name: str, arguments: str, indexes: set[str], analyzed: bool
) -> None:
    """It is kept while the tables grow: a claim took 40 ms at 300,000 tasks."""
    connection = await asyncpg.connect(database_url, server_settings=KEPT_PLANS)
    try:
        if analyzed:
            await connection.execute("ANALYZE")
        await connection.execute(f"PREPARE {name} AS {load(file)[name]}")
        call = f"EXECUTE {name}({arguments})" if arguments else f"EXECUTE {name}"
        explained = await connection.fetchval(f"EXPLAIN (FORMAT JSON) {call}")
    finally:
        await connection.close()
    nodes = list(_nodes(json.loads(explained)[0]["Plan"]))
    scanned = {node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"}
    assert not scanned & {"tasks", "attempts", "sessions", "task_secrets"}, explained
    assert indexes <= {node.get("Index Name") for node in nodes}, explained
