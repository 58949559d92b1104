"""Who hears of what is watched: agents flush early, other processes tell of news."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import asyncpg
import pytest

from api import watched as watched_tasks
from api.live import chunks, service, viewing
from api.live.chunks import Chunks
from api.notices import Notices
from api.store import live as store
from schema.sessions import BeatReply
from tests.api.conftest import StartApi
from tests.api.events import Viewer, watched
from tests.api.server import Api, chunk, eventually
from tests.api.writers import until, writer


def _live(number: int, query: str = "") -> str:
    return f"/tasks/{number}/logs/live{query}"


async def _beat(api: Api, session: str, flush_ms: int | None) -> BeatReply:
    """A beat that is parked for as long as it likes."""
    return await api.beat(session, wait=20, flush_ms=flush_ms)


async def test_the_agent_of_a_watched_task_is_told_at_once_to_flush_early(
    start_api: StartApi,
) -> None:
    """The beat is parked at one process, somebody begins to watch at another one."""
    async with start_api(lease_s=60) as here, start_api(lease_s=60) as there:
        agent = await writer(here)
        parked = asyncio.ensure_future(_beat(there, agent.session, None))
        assert await there.report(agent.session, [chunk(agent.task.lease, b"x\n")]) == ["ok"]
        async with watched(here, _live(agent.task.id)) as viewer:
            await until(viewer, lambda one: bool(one.pieces))
            reply = await asyncio.wait_for(parked, 5)
            assert reply.flush_ms == 250
            # Who knows it already is parked, and so is an agent that knows no wishes.
            waits = [
                asyncio.ensure_future(_beat(there, agent.session, 250)),
                asyncio.ensure_future(there.beat(agent.session, wait=20)),
            ]
            done, _ = await asyncio.wait(waits, timeout=0.3)
            assert not done
            for each in waits:
                each.cancel()
            await asyncio.wait(waits)


async def _matching(database: asyncpg.Connection, heard: list[str], word: str) -> list[str]:
    """Notices with a word in them that this connection has heard of."""
    await database.execute("SELECT 1")
    return [each for each in heard if word in each]


def _several(announced: list[str]) -> bool:
    """Over a longer time than one announcement is believed."""
    return len(announced) > 5


async def test_the_wish_is_over_some_time_after_the_last_viewer(
    start_api: StartApi, database: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at once: somebody who loads a page again must not make the agent change its pace."""
    monkeypatch.setattr(watched_tasks, "BELIEVE_S", 1.5)
    monkeypatch.setattr(service, "ANNOUNCE_S", 0.4)
    heard: list[str] = []
    await database.add_listener("distributed_worker", lambda *args: heard.append(str(args[3])))
    async with start_api(lease_s=60) as api:
        agent = await writer(api)
        async with watched(api, _live(agent.task.id)) as viewer:
            await until(viewer, lambda one: bool(one.named("status")))
            assert (await asyncio.wait_for(_beat(api, agent.session, None), 5)).flush_ms == 250
            await eventually(lambda: _matching(database, heard, '"watching"'), _several)
            assert (await api.beat(agent.session)).flush_ms == 250
        assert (await api.beat(agent.session)).flush_ms == 250
        assert (await asyncio.wait_for(_beat(api, agent.session, 250), 10)).flush_ms is None


async def test_a_process_that_starts_later_asks_what_is_watched(
    start_api: StartApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that died is replaced: its agents must not fall back for seconds."""
    monkeypatch.setattr(service, "ANNOUNCE_S", 3600.0)
    async with start_api() as here:
        agent = await writer(here)
        async with watched(here, _live(agent.task.id)) as viewer:
            await until(viewer, lambda one: bool(one.named("status")))
            async with start_api() as later:
                reply = await asyncio.wait_for(_beat(later, agent.session, None), 5)
                assert reply.flush_ms == 250


async def test_news_of_a_report_to_another_process_come_by_notice(
    start_api: StartApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by looking: nobody looks here."""
    monkeypatch.setattr(service, "_LOOK_S", 3600.0)
    async with start_api() as here, start_api() as there:
        agent = await writer(there)
        async with watched(here, _live(agent.task.id)) as viewer:
            await until(viewer, lambda one: bool(one.named("attempt")))

            async def heard() -> bool:
                return (await there.beat(agent.session)).flush_ms == 250

            await eventually(heard, bool)
            for number in range(1, 6):
                await agent.write(1)
                await until(viewer, lambda one, number=number: len(one.pieces) == number)  # type: ignore[misc]  # mypy knows no defaults there
            await agent.end()
            await until(viewer, lambda one: bool(one.named("end")))


async def test_a_claim_at_another_process_comes_by_notice(
    start_api: StartApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its agent is to flush early from the first line on."""
    monkeypatch.setattr(service, "_LOOK_S", 3600.0)
    async with start_api() as here, start_api() as there:
        number = await here.submit(needs=["watched-claim"])
        other = await writer(there)
        async with (
            watched(here, _live(number)) as viewer,
            watched(here, _live(other.task.id)) as later,
        ):
            await until(viewer, lambda one: bool(one.named("status")))
            await until(later, lambda one: bool(one.named("status")))
            session = await there.open("watched-claim")
            # Announced behind it: who has heard that has heard of both.
            assert (await asyncio.wait_for(_beat(there, other.session, None), 5)).flush_ms == 250
            assert await there.claim(session, wait=10)
            await until(viewer, lambda one: bool(one.named("attempt")))
            assert (await asyncio.wait_for(_beat(there, session, None), 5)).flush_ms == 250


async def test_lost_notices_cost_a_second(
    start_api: StartApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Watchers look by themselves."""
    monkeypatch.setattr(Notices, "tasks_moved", lambda _self, _tasks: None)
    async with start_api() as api:
        agent = await writer(api)
        async with watched(api, _live(agent.task.id)) as viewer:
            await until(viewer, lambda one: bool(one.named("attempt")))
            await agent.write(5)
            await until(viewer, lambda one: len(one.pieces) == 5)
            await agent.end()
            await until(viewer, lambda one: bool(one.named("end")))


async def test_many_viewers_of_one_task_cost_what_one_does(
    start_api: StartApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They share looks, chunks and steps."""
    looks = reads = 0
    look_many, read_many = store.look_many, store.read_many

    async def look(connection: Any, asked: Any) -> Any:
        nonlocal looks
        looks += 1
        return await look_many(connection, asked)

    async def read(connection: Any, keys: Any) -> Any:
        nonlocal reads
        reads += len(keys)
        return await read_many(connection, keys)

    monkeypatch.setattr(store, "look_many", look)
    monkeypatch.setattr(store, "read_many", read)
    async with start_api() as api, AsyncExitStack() as stack:
        agent = await writer(api)
        await agent.write(20)
        viewers = [
            await stack.enter_async_context(watched(api, _live(agent.task.id))) for _ in range(50)
        ]
        for viewer in viewers:
            await until(viewer, lambda one: len(one.pieces) == 20)
        for number in range(10):
            await agent.write(1)
            for viewer in viewers:
                await until(viewer, lambda one, most=21 + number: len(one.pieces) == most)  # type: ignore[misc]  # as above
        await agent.end()
        for viewer in viewers:
            await until(viewer, lambda one: bool(one.named("end")))
    assert reads <= 12, reads  # each chunk once
    assert looks < 80, looks  # fifty came, ten reports, some seconds


async def test_nothing_is_told_of_what_nobody_watches(
    own_api: Api, database: asyncpg.Connection
) -> None:
    """The reports of ten thousand agents must not cost a notice each."""
    heard: list[str] = []
    await database.add_listener("distributed_worker", lambda *args: heard.append(str(args[3])))
    agent = await writer(own_api)
    await agent.write(5)
    await agent.end()
    other = await writer(own_api, 1)
    async with watched(own_api, _live(other.task.id)) as viewer:
        await until(viewer, lambda one: bool(one.named("attempt")))
        await other.write(1)
        await until(viewer, lambda one: bool(one.pieces))
    moved = await eventually(lambda: _matching(database, heard, '"moved"'), bool)
    assert all(f"[{other.task.id}]" in each for each in moved), moved


async def test_a_slow_viewer_slows_nobody_and_holds_little(start_api: StartApi) -> None:
    """He reads nothing; the log goes on, others see it, and when he reads he misses nothing."""
    async with start_api() as api:
        session, task = await api.started()
        slow, quick = Viewer(api, _live(task.id)), Viewer(api, _live(task.id))
        async with slow.reply() as reply:
            reply.content._low_water = 1  # aiohttp would read ahead
            reply.content._high_water = 1
            watching = asyncio.ensure_future(quick.watch())
            data = b"".join(b"%07d\n" % line for line in range(60_000))
            offset = 0
            for _ in range(40):
                await api.report(session, [chunk(task.lease, data, offset=offset)])
                offset += len(data)
            await until(quick, lambda one: len(one.log(task.id)) == offset)
            await api.report(session, [], [{"lease": task.lease, "reason": "exit", "exit_code": 0}])
            await watching
            async for event in slow.read(reply):
                slow.take(event)
        assert slow.log(task.id) == data * 40
        assert slow.named("end")


async def test_what_is_read_for_viewers_stays_bounded(
    start_api: StartApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small cache, and steps of many viewers at many places of a log far larger than it."""
    monkeypatch.setattr(chunks, "_KEPT_BYTES", 1_000_000)
    monkeypatch.setattr(service, "_KEPT_STEPS_BYTES", 100_000)
    weights: list[int] = []
    keep = Chunks._keep

    def watch_weight(self: Chunks, *what: Any) -> None:
        keep(self, *what)
        weights.append(self._weight)

    monkeypatch.setattr(Chunks, "_keep", watch_weight)
    async with start_api() as api:
        session, task = await api.started()
        data = b"".join(b"%07d\n" % line for line in range(60_000))
        for number in range(10):
            await api.report(session, [chunk(task.lease, data, offset=number * len(data))])
        await api.report(session, [], [{"lease": task.lease, "reason": "exit", "exit_code": 0}])
        viewers = [Viewer(api, _live(task.id)) for _ in range(10)]
        await viewers[0].watch()
        ids = [each.id for each in viewers[0].events if each.id]
        for number, viewer in enumerate(viewers[1:], 1):
            viewer.last_id = ids[len(ids) * number // 10]
        await asyncio.gather(*(viewer.watch() for viewer in viewers[1:]))
        for viewer in viewers[1:]:
            assert viewer.log(task.id).lstrip(b"?") == (data * 10)[viewer.pieces[0]["offset"] :]
    assert len(weights) > 20, "the cache was never too small"
    assert max(weights) <= 1_000_000


async def test_a_viewer_waits_while_the_database_is_away(
    start_api: StartApi, database: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All connections are cut in the middle: the stream goes on when it is back."""
    monkeypatch.setattr(service, "_AFTER_ERROR_S", 0.1)
    monkeypatch.setattr(viewing, "AFTER_ERROR_S", 0.1)
    async with start_api() as api:
        agent = await writer(api)
        async with watched(api, _live(agent.task.id)) as viewer:
            for number in range(1, 4):
                await agent.write(2, patiently=True)
                await until(viewer, lambda one, most=2 * number: len(one.pieces) == most)  # type: ignore[misc]  # as above
                await database.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE pid <> pg_backend_pid() AND datname = current_database()"
                )
            assert b"".join(agent.logs.values()).count(b"\n") == 6
            for stream, data in agent.logs.items():
                assert viewer.log(agent.task.id, stream) == data


async def test_a_viewer_who_hangs_up_is_forgotten(start_api: StartApi) -> None:
    """Nothing is sent, looked at or announced for him any more."""
    async with start_api(max_viewers=3) as api:
        agent = await writer(api)
        for _ in range(5):
            viewers = [Viewer(api, _live(agent.task.id)) for _ in range(3)]
            for viewer in viewers:
                await viewer.watch(lambda one: bool(one.named("attempt")))

            async def room() -> int:
                one = Viewer(api, _live(agent.task.id))
                async with one.reply() as reply:
                    return reply.status

            await eventually(room, lambda status: status == 200)
