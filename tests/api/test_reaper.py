"""The reaper: what a silent agent held runs again within its lease, or fails."""

import asyncio
import re

import asyncpg
import pytest

from api.reaper import _REAP_LOCK
from api.store import Connection
from api.store import results as result_store
from api.store.results import Ended
from tests.api.conftest import StartApi
from tests.api.server import Api, eventually, exited


async def _status(api: Api, session: str) -> int:
    return (await api.post("/beats", {"session": session})).status


async def _beat(api: Api, session: str) -> None:
    """Keep a session alive."""
    while True:
        await api.beat(session, wait=0.2)


async def test_tasks_of_a_lost_session_run_again(start_api: StartApi) -> None:
    """A machine lost power: another agent runs its task, and the dead one's result is refused."""
    async with start_api(lease_s=1, reaper_s=0.1) as api:
        dead, task = await api.started()
        (label,) = (await api.task(task.id)).needs
        # Only the reaper can bring it: the living one beats, the dead one is silent.
        living = await api.open(label)
        async with asyncio.TaskGroup() as group:
            beats = group.create_task(_beat(api, living))
            (again,) = await api.claim(living, wait=30)
            assert (again.id, again.attempt) == (task.id, 2)
            await eventually(lambda: _status(api, dead), lambda status: status == 410)
            results = [exited(task.lease), exited(again.lease)]
            assert await api.report(living, [], results) == ["stale", "ok"]
            beats.cancel()
        over = await api.task(task.id)
        assert isinstance(over.attempts, tuple)
        assert [(each.attempt, each.reason) for each in over.attempts] == [(1, "agent_lost")]
        cause = over.attempts[0].message or ""
        assert re.fullmatch(r"agent tester was silent for [1-9] s", cause), cause


async def test_any_traffic_keeps_a_session_alive(start_api: StartApi) -> None:
    """An agent that reports and claims is heard of, whether it beats or not."""
    async with start_api(lease_s=1, reaper_s=0.1) as api:
        silent = await api.open()
        session, task = await api.started()

        async def dead() -> int:
            await api.report(session)
            agents = (await api.call("GET", "/agents")).as_(list[dict[str, object]])
            return len(agents)

        assert await eventually(dead, lambda each: each == 1) == 1
        await eventually(lambda: _status(api, silent), lambda status: status == 410)
        assert (await api.task(task.id)).status == "in_progress"
        assert await api.report(session, [], [exited(task.lease)]) == ["ok"]


async def test_a_task_that_kills_its_machines_fails_at_the_limit(start_api: StartApi) -> None:
    """It must not walk through the whole farm."""
    async with start_api(reaper_s=0.05, crash_limit=2) as api:
        session, task = await api.started(max_attempts=9)
        (label,) = (await api.task(task.id)).needs
        second = await api.open(label, replaces=session)
        (again,) = await api.claim(second, wait=20)
        assert again.attempt == 2
        await api.open(label, replaces=second)
        over = await api.until(task.id, "failed")
        assert (over.reason, over.attempt) == ("agent_lost", 2)
        assert over.message == "agent tester died, and was started again"


@pytest.mark.parametrize(
    ("gone", "cancelled", "cause"),
    [
        ("silent", "before", r"was silent for [1-9] s"),
        ("replaced", "before", r"died, and was started again"),
        ("replaced", "after", r"died, and was started again"),
        ("closed", "before", r"ended its session and left no result"),
        ("closed", "after", r"ended its session and left no result"),
    ],
)
async def test_a_cancelled_task_whose_agent_is_gone_ends(
    start_api: StartApi, database: asyncpg.Connection, gone: str, cancelled: str, cause: str
) -> None:
    """Nobody is left to ask, and nobody wants it to run again; it says what became of the agent."""
    async with start_api(lease_s=1 if gone == "silent" else 60, reaper_s=0.05) as api:
        session, task = await api.started()
        async with database.transaction():  # no tick comes in between
            await database.execute("SELECT pg_advisory_xact_lock($1)", _REAP_LOCK)
            if cancelled == "before":
                await api.call("POST", f"/tasks/{task.id}/cancel")
            if gone == "replaced":
                await api.open(replaces=session)
            elif gone == "closed":
                await api.beat(session, closing=True)
            if cancelled == "after":
                await api.call("POST", f"/tasks/{task.id}/cancel")
            assert (await api.task(task.id)).status == "in_progress"
        over = await api.until(task.id, "cancelled")
        assert over.reason == "cancelled"
        assert re.fullmatch(f"agent tester {cause}", over.message or ""), over.message


async def test_a_session_that_says_goodbye_frees_its_tasks(start_api: StartApi) -> None:
    """It should hold nothing then; if it does, nobody waits for a lease."""
    async with start_api(reaper_s=0.05) as api:
        session, task = await api.started()
        await api.beat(session, closing=True)
        await api.until(task.id, "pending")


async def test_a_server_that_just_started_lets_the_fleet_be_heard_first(
    start_api: StartApi, database: asyncpg.Connection
) -> None:
    """After an outage every session looks silent: it waits a whole lease before it marks any."""
    async with start_api(lease_s=60) as api:
        session, task = await api.started()
    await database.execute("UPDATE sessions SET seen_at = now() - interval '1 hour'")
    async with start_api(lease_s=2, reaper_s=0.05) as api:
        assert (await api.beat(session, held=[[task.id, 1]])).cancel == ()
        assert await api.report(session, [], [exited(task.lease)]) == ["ok"]


async def test_what_a_silent_compatible_agent_had_fails(
    start_api: StartApi, database: asyncpg.Connection
) -> None:
    """Its attempts have no identity: it may still run, so nobody starts it a second time."""
    async with start_api(reaper_s=0.05, pulled_silence_s=1) as api:
        number = await api.submit(needs=[])
        assert (await api.call("POST", "/tasks/pull")).as_(dict[str, object])["id"] == number
        over = await api.until(number, "failed")
        assert (over.reason, over.attempt) == ("agent_lost", 1)
        assert over.message == "the agent that pulled it sent no log for 1 s"
        assert await database.fetchval("SELECT count(*) FROM attempts") == 0


async def test_logs_of_expired_days_are_dropped_by_a_server(
    start_api: StartApi, database: asyncpg.Connection
) -> None:
    """Retention needs nobody to remember it."""
    await database.execute(
        "CREATE TABLE log_chunks_20200101 PARTITION OF log_chunks"
        " FOR VALUES FROM ('2020-01-01') TO ('2020-01-02')"
    )
    async with start_api(log_days=30):

        async def there() -> object:
            return await database.fetchval("SELECT to_regclass('log_chunks_20200101')::text")

        await eventually(there, lambda each: each is None)
    days = await database.fetchval(
        "SELECT count(*) FROM pg_inherits WHERE inhparent = 'log_chunks'::regclass"
    )
    assert days == 5


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch, database_url: str) -> list[int]:
    """Make looks at what is held slow, and give one attempt each; how many each one found.

    Only in this test's database: the server that tests share looks as well.
    """
    ours = database_url.rsplit("/", 1)[1].split("?", maxsplit=1)[0]
    found: list[int] = []
    look = result_store.held_by_dead

    async def slow(connection: Connection) -> list[Ended]:
        if await connection.fetchval("SELECT current_database()") != ours:
            return await look(connection)
        await asyncio.sleep(0.5)
        lost = await look(connection)
        found.append(len(lost))
        return lost[:1]

    monkeypatch.setattr(result_store, "held_by_dead", slow)
    return found


async def test_slow_looks_are_rare(start_api: StartApi, looks: list[int]) -> None:
    """With half a million tasks in hand they took half of a core from claims."""
    async with start_api(reaper_s=0.05):
        await asyncio.sleep(2)  # for what must not come: without pauses there were three more
    assert looks == [0]


async def test_what_one_look_leaves_the_next_one_finds_at_once(
    start_api: StartApi, looks: list[int]
) -> None:
    """However slow looks are, and whenever the last one was."""
    async with start_api(reaper_s=0.05, lease_s=1) as api:
        await eventually(lambda: asyncio.sleep(0, looks), lambda found: found == [0])
        session, task = await api.started()
        (label,) = (await api.task(task.id)).needs
        more = [await api.submit(needs=[label]) for _ in range(2)]
        await api.claim(session, slots=2)
        for each in (task.id, *more):
            await api.until(each, "pending")
    assert looks[1:4] == [3, 2, 1]
