"""What ends a live log before its end, or keeps it from beginning; and what does not."""

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from api.live import group_viewing, viewing
from api.store import live as store
from api.store import logs as log_store
from schema.tokens import TokenMade
from tests.api.conftest import StartApi
from tests.api.events import Viewer, watched
from tests.api.server import Api, chunk, eventually
from tests.api.writers import until, writer

_ADMIN = "a secret of some length"


async def _reader(api: Api, name: str) -> dict[str, str]:
    made = await api.post("/tokens", {"name": name, "role": "read"})
    return {"Authorization": f"Bearer {made.as_(TokenMade).token}"}


async def _watching(api: Api, most: int) -> None:
    """Wait until no more viewers than that are counted."""

    async def count() -> int:
        text = (await api.call("GET", "/metrics")).body
        return int(text.partition(b'dw_waiting{what="viewers"} ')[2].split(b".")[0].split()[0])

    await eventually(count, lambda viewers: viewers <= most)


@pytest.mark.parametrize("path", ["/tasks/{}/logs/live", "/groups/revoked/logs/live"])
async def test_a_revoked_token_sees_no_more(start_api: StartApi, path: str) -> None:
    """Whoever was locked out must not go on reading, here or at another process; others do."""
    async with start_api(token=_ADMIN) as one, start_api(token=_ADMIN) as other:
        agent = await writer(one, group="revoked")
        await agent.write(3)
        headers = await _reader(one, "stolen")
        thieves = [Viewer(api, path.format(agent.task.id), headers) for api in (one, other)]
        async with watched(one, path.format(agent.task.id)) as mine, asyncio.TaskGroup() as group:
            for thief in thieves:
                group.create_task(thief.watch())
                await until(thief, lambda viewer: len(viewer.pieces) == 3)
            await one.post("/tokens/stolen/revoke", {})
            for thief in thieves:
                await until(thief, lambda viewer: viewer.over)
            await agent.write(3)
            await until(mine, lambda viewer: len(viewer.pieces) == 6)
        for thief in thieves:
            assert len(thief.pieces) == 3
            refused = await thief.api.call("GET", thief.path, headers=headers)
            refused.problem(401)
        await _watching(one, 0)


async def test_with_the_first_token_who_watched_without_one_sees_no_more(
    start_api: StartApi,
) -> None:
    """From then on everybody needs one: also who came before, here or at another process."""
    async with start_api() as one, start_api() as other:
        agent = await writer(one, group="open")
        await agent.write(3)
        path = f"/tasks/{agent.task.id}/logs/live"
        async with watched(one, path) as here, watched(other, "/groups/open/logs/live") as there:
            for viewer in (here, there):
                await until(viewer, lambda viewer: len(viewer.pieces) == 3)
            await one.post("/tokens", {"name": "first", "role": "admin"})
            for viewer in (here, there):
                await until(viewer, lambda viewer: viewer.over)
        for viewer in (here, there):
            (await viewer.api.call("GET", viewer.path)).problem(401)


async def test_a_token_has_only_its_share_of_the_viewers(start_api: StartApi) -> None:
    """A dashboard that opens streams in a circle must not lock everybody else out."""
    async with start_api(token=_ADMIN, max_viewers=3, max_viewers_per_token=2) as api:
        number = await api.submit(group="share")
        path = f"/tasks/{number}/logs/live"
        headers = await _reader(api, "dashboard")
        async with AsyncExitStack() as stack:
            for where in (path, "/groups/share/logs/live"):
                viewer = await stack.enter_async_context(watched(api, where, headers))
                await until(viewer, lambda one: bool(one.events))
            refused = await api.call("GET", path, headers=headers)
            refused.problem(429, "dashboard", "2 viewers", "MAX_VIEWERS_PER_TOKEN")
            assert refused.headers["retry-after"] == "5"
            mine = await stack.enter_async_context(watched(api, path))
            await until(mine, lambda one: bool(one.events))
            (await api.call("GET", path)).problem(503, "3 viewers", "MAX_VIEWERS")
        await _watching(api, 0)
        # A seat that was refused, or that nothing came of, is nobody's.
        for _ in range(3):
            (await api.call("GET", "/tasks/999999/logs/live", headers=headers)).problem(404)
            (await api.call("GET", "/groups/nobody/logs/live", headers=headers)).problem(404)
            (await api.call("GET", f"{path}?after=x", headers=headers)).problem(400)
        again = Viewer(api, path, headers)
        await again.watch(lambda one: bool(one.events))


@pytest.mark.parametrize("path", ["/tasks/{}/logs/live", "/groups/brief/logs/live"])
async def test_no_stream_lasts_for_ever(
    start_api: StartApi, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """A browser's cookie ends without a word: now and then everybody shows again who he is."""
    monkeypatch.setattr(viewing, "_LONGEST_S", 0.5)
    monkeypatch.setattr(viewing, "KEEP_ALIVE_S", 0.1)
    monkeypatch.setattr(group_viewing, "KEEP_ALIVE_S", 0.1)
    async with start_api() as api:
        agent = await writer(api, group="brief")
        viewer = Viewer(api, path.format(agent.task.id))
        for rounds in range(1, 4):
            await agent.write(2)
            watching = asyncio.ensure_future(viewer.watch())
            await until(viewer, lambda one, most=2 * rounds: len(one.pieces) == most)  # type: ignore[misc]  # mypy knows no defaults there
            await asyncio.wait_for(watching, 10)
            assert viewer.over
        for stream, data in agent.logs.items():
            assert viewer.log(agent.task.id, stream) == data
        assert not viewer.named("end") + viewer.named("done")


async def test_a_log_that_expires_while_it_is_shown_is_not_called_complete(
    start_api: StartApi, database: asyncpg.Connection
) -> None:
    """Retention drops a whole day, also of somebody who is reading in the middle of it."""
    async with start_api() as api:
        session, task = await api.started()
        data = b"".join(b"%07d\n" % line for line in range(60_000))
        for number in range(60):  # more than the sockets and the cache between us hold
            sent = chunk(task.lease, data, offset=number * len(data))
            assert await api.report(session, [sent]) == ["ok"]
        result = {"lease": task.lease, "reason": "exit", "exit_code": 0}
        assert await api.report(session, [], [result]) == ["ok"]
        viewer = Viewer(api, f"/tasks/{task.id}/logs/live")
        async with viewer.reply() as reply:
            events = viewer.read(reply)
            task_day = await database.fetchval("SELECT max(day) FROM log_chunks")
            while not viewer.pieces:
                viewer.take(await anext(events))
            assert await log_store.drop_days(database, task_day + timedelta(days=1))
            async for event in events:
                viewer.take(event)
        assert viewer.named("log")[0]["state"] == "expired"
        assert viewer.named("end")
        shown = viewer.log(task.id)
        assert 0 < len(shown) < 60 * len(data)
        assert shown == (data * 60)[: len(shown)]


@pytest.mark.parametrize("path", ["/tasks/{}/logs/live", "/groups/silent/logs/live"])
async def test_what_could_not_be_read_is_read_again_though_nothing_moves(
    start_api: StartApi, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """The database was away for a moment, and the task is silent: no news wakes the viewer."""
    failures = 3
    read_many = store.read_many

    async def read(connection: Any, keys: Any) -> Any:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise ConnectionResetError("away for a moment")
        return await read_many(connection, keys)

    monkeypatch.setattr(store, "read_many", read)
    monkeypatch.setattr(viewing, "AFTER_ERROR_S", 0.01)
    monkeypatch.setattr(group_viewing, "AFTER_ERROR_S", 0.01)
    async with start_api() as api:
        agent = await writer(api, group="silent")
        await agent.write(5)
        async with watched(api, path.format(agent.task.id)) as viewer:
            await until(viewer, lambda one: len(one.pieces) == 5)
            assert failures < 0
            assert viewer.comments >= 3, "it was kept alive meanwhile"
