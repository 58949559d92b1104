"""Live logs of a whole group over HTTP."""

import asyncio
import random
from typing import Any

import pytest

from api.live import bundles, group_tails, group_viewing
from api.live.bundles import Bundle
from tests.api.conftest import StartApi
from tests.api.events import Viewer, watched
from tests.api.server import Api, chunk, eventually
from tests.api.writers import Writer, until, writer


def _live(name: str, query: str = "") -> str:
    return f"/groups/{name}/logs/live{query}"


def _done(viewer: Viewer) -> bool:
    return bool(viewer.named("done"))


def _whole(viewer: Viewer, agents: list[Writer]) -> None:
    """Demand every byte of every task."""
    for agent in agents:
        for stream, data in agent.logs.items():
            assert viewer.log(agent.task.id, stream, agent.task.attempt) == data
    assert {end["task"] for end in viewer.named("end")} == {agent.task.id for agent in agents}


async def test_all_tasks_of_a_group_are_told_until_the_last_has_ended(api: Api) -> None:
    """One that is over, some that run, and one that comes later."""
    over = await writer(api, 1, group="all")
    await over.write(5)
    await over.end()
    agents = [over, *[await writer(api, seed, group="all") for seed in (2, 3)]]
    await agents[1].write(3)
    async with watched(api, _live("all")) as viewer:
        await until(viewer, lambda one: len(one.logs) == 4)
        later = await writer(api, 4, group="all")
        agents.append(later)
        for agent in agents[1:]:
            await agent.write(10)
        for agent in agents[1:]:
            await agent.end(exit_code=int(agent is later))
        await until(viewer, _done)
    _whole(viewer, agents)
    first, last = viewer.named("group")[0], viewer.named("done")[0]
    assert first == {"name": "all", "total": 3, "counts": {"in_progress": 2, "succeeded": 1}}
    assert last == {"name": "all", "total": 4, "counts": {"failed": 1, "succeeded": 3}}
    assert {each["task"] for each in viewer.named("status")} == {
        agent.task.id for agent in agents[1:]
    }
    assert {log["state"] for log in viewer.named("log")} == {"complete"}
    assert len(viewer.named("attempt")) == len(agents)


@pytest.mark.parametrize("seed", range(3))
async def test_a_viewer_of_a_group_who_is_cut_off_misses_nothing(api: Api, seed: int) -> None:
    """His position is one of all tasks, in one id."""
    name = f"cut-{seed}"
    chance = random.Random(seed)
    agents = [await writer(api, number, group=name) for number in range(6)]
    viewer = Viewer(api, _live(name))

    async def write(agent: Writer, rounds: int) -> None:
        for _ in range(rounds):
            await agent.write(chance.choice([1, 5, 20]))
            await asyncio.sleep(0.01)
        await agent.end()

    async with asyncio.TaskGroup() as group:
        for number, agent in enumerate(agents):
            group.create_task(write(agent, 10 + 3 * number))
        cuts = 0
        while not _done(viewer):
            viewer.received = 0
            await viewer.watch_bytes(chance.choice([1, 400, 3000, 30_000, 200_000]))
            cuts += 1
            assert cuts < 3000
    assert cuts > 5
    _whole(viewer, agents)
    assert len(viewer.named("end")) == len(viewer.named("log")) == len(agents)


async def test_who_saw_only_the_end_of_silent_tasks_comes_back_to_where_he_was(api: Api) -> None:
    """The server is started again before any of them writes more: `dw watch` ended there."""
    agents = [await writer(api, number, group="silent") for number in range(3)]
    for agent in agents:
        await agent.write(5)
    viewer = Viewer(api, _live("silent", "?tail=2"))
    await viewer.watch(lambda one: len(one.named("attempt")) == len(agents))
    assert viewer.last_id is not None
    await viewer.watch(lambda one: len({task for task, _, _ in one.logs}) == len(agents))
    for agent in agents:
        await agent.end()
    await viewer.watch()
    assert _done(viewer)
    assert len(viewer.named("attempt")) == len(viewer.named("end")) == len(agents)


async def test_who_was_told_all_need_not_come_again(api: Api) -> None:
    """Unless the group goes on."""
    agent = await writer(api, group="told")
    await agent.end()
    viewer = Viewer(api, _live("told"))
    await viewer.watch()
    assert _done(viewer)
    await viewer.watch()
    assert viewer.status == 204
    more = await writer(api, 2, group="told")
    await more.write(3)
    await more.end()
    await asyncio.sleep(0)
    await viewer.watch(lambda one: len(one.named("end")) == 2)
    _whole(viewer, [agent, more])


@pytest.mark.parametrize("retried", [True, False])
async def test_what_was_the_end_for_others_is_none_when_the_group_goes_on(
    api: Api, *, retried: bool
) -> None:
    """Somebody saw all of it end, a moment before: `dw logs -f` would stop at once."""
    agent = await writer(api, group=f"goes-on-{retried}")
    number, path = agent.task.id, _live(f"goes-on-{retried}")
    await agent.write(3)
    await agent.end(exit_code=1)
    await Viewer(api, path).watch()
    if retried:
        await api.post(f"/tasks/{number}/retry", {})
    else:
        more = await writer(api, 2, group=f"goes-on-{retried}")
    async with watched(api, path) as viewer:
        await until(viewer, lambda one: bool(one.named("log")))
        if retried:
            assert not viewer.named("end")
            (task,) = await api.claim(agent.session, wait=10)
            more = Writer(api, agent.session, task, 3)
        await more.write(3)
        await more.end()
        await until(viewer, _done)
    for stream, data in more.logs.items():
        assert viewer.log(more.task.id, stream, more.task.attempt) == data
    ends = [(end["task"], end["attempt"]) for end in viewer.named("end")]
    assert ends == ([(number, 2)] if retried else [(number, 1), (more.task.id, 1)])


async def test_a_task_that_is_run_again_is_told_again(api: Api) -> None:
    """Its end was told; the rest of the group still runs, and somebody retries it."""
    rest = await writer(api, 1, group="again")
    first = await writer(api, 2, group="again")
    number = first.task.id
    async with watched(api, _live("again")) as viewer:
        await first.write(3)
        await first.end(exit_code=1)
        await until(viewer, lambda one: bool(one.named("end")))
        await api.post(f"/tasks/{number}/retry", {})
        (task,) = await api.claim(first.session, wait=10)
        second = Writer(api, first.session, task, 3)
        await second.write(3)
        await until(viewer, lambda one: bool(one.log(number, "stdout", 2)))
        resumed = Viewer(api, _live("again"))
        resumed.last_id = next(each.id for each in viewer.events if each.name == "end")
        watching = asyncio.ensure_future(resumed.watch())
        await second.end()
        await rest.end()
        await until(viewer, _done)
        await watching
    for one in (viewer, resumed):
        assert one.log(number, "stdout", 2) == second.logs["stdout"]
        assert one.log(number, "stderr", 2) == second.logs["stderr"]
    assert [each["attempt"] for each in viewer.named("end") if each["task"] == number] == [1, 2]


async def test_what_a_task_became_is_told_before_its_end(
    own_api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind the end nothing follows: `dw watch` would take the task for one that runs again."""
    rest = await writer(own_api, 1, group="order")
    making, may_go = asyncio.Event(), asyncio.Event()
    next_bundle = bundles.next_bundle

    async def slowly(*args: Any) -> Bundle | None:
        making.set()
        await may_go.wait()
        return await next_bundle(*args)

    async with watched(own_api, _live("order")) as viewer:
        await until(viewer, lambda one: bool(one.named("attempt")))
        monkeypatch.setattr(bundles, "next_bundle", slowly)
        agent = await writer(own_api, 2, group="order")
        await rest.write(1)
        await making.wait()
        await agent.write(3)
        await agent.end(exit_code=1)
        number = agent.task.id
        await eventually(
            lambda: own_api.call("GET", "/groups/order"), lambda reply: b'"failed":1' in reply.body
        )
        may_go.set()
        await until(viewer, lambda one: bool(one.named("end")))
        await rest.end()
        await until(viewer, _done)
    names = [each.name for each in viewer.events if each.name in {"status", "end"}
             and each.data["task"] == number]  # fmt: skip
    assert "status" in names
    assert names[-1] == "end"


async def test_the_tail_leaves_out_what_is_over(api: Api) -> None:
    """Somebody who looks in wants to see what happens."""
    over, runs = await writer(api, 1, group="tail"), await writer(api, 2, group="tail")
    waiting = await api.submit(group="tail")
    await over.write(5)
    await over.end()
    await runs.write(10)
    async with watched(api, _live("tail", "?tail=2")) as viewer:
        await until(viewer, lambda one: bool(one.pieces))
        await runs.write(1)
        await runs.end()
        await api.call("POST", f"/tasks/{waiting}/cancel")
        await until(viewer, _done)
    text = "".join(piece["text"] for piece in viewer.pieces)
    assert text.encode() == b"".join(line for _, line in runs.lines[8:])
    assert [end["task"] for end in viewer.named("end")] == [runs.task.id, waiting]


async def test_viewers_of_a_group_share_what_they_see(api: Api) -> None:
    """Those who come at other times, and read at other paces, see the same."""
    agents = [await writer(api, seed, group="shared") for seed in range(3)]
    viewers = [Viewer(api, _live("shared")) for _ in range(6)]

    async def watch(index: int, viewer: Viewer) -> None:
        await asyncio.sleep(0.03 * index)
        await viewer.watch()

    async with asyncio.TaskGroup() as group:
        for index, viewer in enumerate(viewers):
            group.create_task(watch(index, viewer))
        for _ in range(15):
            for agent in agents:
                await agent.write(2)
            await asyncio.sleep(0.01)
        for agent in agents:
            await agent.end()
    for viewer in viewers:
        _whole(viewer, agents)


async def test_names_may_look_like_paths(api: Api) -> None:
    """A branch is a good name for a test run, quoted or not."""
    agent = await writer(api, group="android/a b/logs")
    await agent.write(2)
    await agent.end()
    for path in ("android%2Fa%20b%2Flogs/logs/live", "android/a%20b/logs/logs/live"):
        viewer = Viewer(api, f"/groups/{path}")
        await viewer.watch()
        _whole(viewer, [agent])
    shown = await api.call("GET", "/groups/android%2Fa%20b%2Flogs")
    assert shown.as_(dict)["total"] == 1
    (await api.call("GET", "/groups/android/a%20b/logs")).problem(404, "android/a b")


async def test_too_large_a_group_is_refused(own_api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can read it, and a position in it would be too long for a header."""
    monkeypatch.setattr(group_tails, "MAX_TASKS", 2)
    monkeypatch.setattr("api.live.groups.MAX_TASKS", 2)
    monkeypatch.setattr("api.routes.groups.MAX_TASKS", 2)
    for _ in range(3):
        await own_api.submit(group="large")
    (await own_api.call("GET", _live("large"))).problem(422, "large", "2")


async def test_a_group_that_is_silent_is_kept_alive(
    start_api: StartApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proxies cut connections on which nothing comes."""
    monkeypatch.setattr(group_viewing, "KEEP_ALIVE_S", 0.05)
    async with start_api() as api:
        agent = await writer(api, group="silent")
        await agent.write(3)
        async with watched(api, _live("silent")) as viewer:
            await until(viewer, lambda one: one.comments > 2)
        assert viewer.log(agent.task.id) == agent.logs["stdout"]


async def test_counts_are_told_though_nothing_else_happens(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that starts in the same second as another one must not stay uncounted."""
    monkeypatch.setattr(group_viewing, "_COUNTS_S", 2.0)
    monkeypatch.setattr(group_viewing, "KEEP_ALIVE_S", 60.0)
    numbers = [await api.submit(group="counted") for _ in range(3)]
    async with watched(api, _live("counted")) as viewer:
        for cancelled, number in enumerate(numbers[:2], 1):
            await api.call("POST", f"/tasks/{number}/cancel")
            await until(
                viewer,
                lambda one, count=cancelled: (
                    one.named("group")[-1:]  # type: ignore[misc]  # mypy knows no defaults there
                    and one.named("group")[-1]["counts"].get("cancelled") == count
                ),
            )
        await api.call("POST", f"/tasks/{numbers[2]}/cancel")
        await until(viewer, _done)


async def test_who_would_need_too_long_a_position_is_refused_before_it_is(
    start_api: StartApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes back in a header: a viewer whose one is too long could never come back.

    His stream ends while the position still fits, and what he is told then, `dw watch` understands.
    """
    monkeypatch.setattr(bundles, "STEP_BYTES", 10**7)  # however much a bundle may hold
    most = 8192
    async with start_api(max_header_bytes=most) as api:
        body = [{"command": "true", "group": "wide", "needs": ["wide"]} for _ in range(400)]
        assert (await api.post("/tasks", body)).status == 201
        session = await api.open("wide", slots=400)
        tasks = await api.claim(session, slots=400)
        assert len(tasks) == 400
        chunks = [chunk(task.lease, b"x\n", at=1) for task in tasks]
        assert set(await api.report(session, chunks)) == {"ok"}
        viewer = Viewer(api, _live("wide"))
        async with asyncio.timeout(20):
            await viewer.watch()
        assert viewer.over
        assert not viewer.named("done")
        assert viewer.last_id is not None
        room = most - 6144
        assert room < len(viewer.last_id) < room + 64 * 10  # of which each takes some 8 here
        for path, headers in (
            (_live("wide"), {"Last-Event-ID": viewer.last_id}),
            (_live("wide", "?tail=1"), {}),
        ):
            reply = await api.call("GET", path, headers=headers)
            reply.problem(422, "too many tasks of group 'wide' run", "MAX_HEADER_BYTES")
