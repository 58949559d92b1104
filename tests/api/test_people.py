"""What people look at: lists, groups, agents, the home page, health, metrics."""

import asyncio
import re

import asyncpg

from schema.sessions import Agent
from schema.tasks import Group, Submitted, TaskPage
from tests.api.conftest import StartApi
from tests.api.server import Api, exited


async def _page(api: Api, query: str) -> TaskPage:
    return (await api.call("GET", f"/tasks?{query}")).as_(TaskPage)


async def test_pages_neither_skip_nor_repeat(api: Api) -> None:
    """Newest first, by a cursor that new tasks do not shift."""
    numbers = [await api.submit(group="pages") for _ in range(7)]
    seen: list[int] = []
    cursor = ""
    while True:
        page = await _page(api, f"group=pages&limit=3{cursor}")
        seen += [task.id for task in page.tasks]
        await api.submit(group="pages")
        if page.next is None:
            break
        cursor = f"&cursor={page.next}"
    assert seen == numbers[::-1]


async def test_filters_choose(api: Api) -> None:
    """By status (several), group, name, agent and number."""
    session, task = await api.started(group="filters", name="runs")
    waits = await api.submit(group="filters", name="waits")
    done = await api.submit(group="filters")
    await api.call("POST", f"/tasks/{done}/cancel")
    for query, expected in (
        ("status=cancelled", [done]),
        ("status=pending&status=cancelled", [done, waits]),
        ("name=waits", [waits]),
        ("name=waits&status=in_progress", []),
        ("agent=nobody", []),
    ):
        page = await _page(api, f"group=filters&{query}")
        assert [each.id for each in page.tasks] == expected, query
    page = await _page(api, f"id={waits}&id={task.id}&id=987654321")
    assert [each.id for each in page.tasks] == [waits, task.id]
    assert session


async def test_a_group_is_seen_as_a_whole(api: Api) -> None:
    """Is the test run over, and how did it go."""
    session, task = await api.started(group="nightly run")
    await api.submit(group="nightly run")
    group = (await api.call("GET", "/groups/nightly%20run")).as_(Group)
    assert (group.counts, group.total) == ({"in_progress": 1, "pending": 1}, 2)
    assert (group.finished_at, group.infrastructure) == (None, 0)
    lost = {"lease": task.lease, "reason": "agent_lost"}
    for _ in range(5):  # CRASH_LIMIT
        assert await api.report(session, [], [lost]) == ["ok"]
        for again in await api.claim(session):
            lost["lease"] = again.lease
    group = (await api.call("GET", "/groups/nightly%20run")).as_(Group)
    assert (group.counts, group.infrastructure) == ({"failed": 1, "pending": 1}, 1)
    over = await api.task(task.id)
    assert over.message == "its agent gave up the task without saying why"


async def test_a_group_with_a_slash_in_its_name_is_found(api: Api) -> None:
    """`android/nightly` is a name that people give."""
    await api.submit(group="android/nightly")
    group = (await api.call("GET", "/groups/android%2Fnightly")).as_(Group)
    assert group.name == "android/nightly"


async def test_a_key_is_one_task_at_any_server(start_api: StartApi) -> None:
    """Sent twice at the same time, to two servers, in arrays of another order."""
    body = [{"command": str(number), "key": f"key {number}"} for number in range(200)]
    async with start_api() as one, start_api() as other:
        replies = await asyncio.gather(
            *(api.post("/tasks", body[::step]) for api in (one, other) for step in (1, -1) * 2)
        )
    answers = [reply.as_(list[Submitted]) for reply in replies]
    assert len({each.id for answer in answers for each in answer}) == 200
    assert sum(each.created for answer in answers for each in answer) == 200


async def test_keys_in_another_order_wait_for_each_other(
    own_api: Api, database: asyncpg.Connection
) -> None:
    """PostgreSQL ends one of two transactions that wait in a circle: it must be tried again."""
    await own_api.submit(key="lane exists")
    async with asyncio.TaskGroup() as group:
        async with database.transaction():
            insert = (
                "INSERT INTO tasks (lane, priority, max_attempts, exclusive, command, key,"
                " key_digest) VALUES (1, 5, 1, false, 'x', $1, '')"
            )
            await database.execute(insert, "a")
            body = [{"command": "x", "key": "b"}, {"command": "x", "key": "a"}]
            racing = group.create_task(own_api.post("/tasks", body))
            async with asyncio.timeout(10):
                while not await database.fetchval(
                    "SELECT count(*) FROM pg_locks WHERE NOT granted"
                ):
                    await asyncio.sleep(0.01)
            await database.execute(insert, "b")
        reply = await racing
    # The other one's tasks stand under these keys, and they are not the same submissions.
    reply.problem(409, "already belongs to another submission")


async def test_agents_that_ended_are_shown_when_asked_for(api: Api) -> None:
    """What happened to the machine that ran it yesterday."""
    session = await api.open("shown", agent="pixel-wall", slots=7, version="1.2")
    await api.beat(session, closing=True)

    async def named(query: str) -> list[Agent]:
        agents = (await api.call("GET", f"/agents{query}")).as_(list[Agent])
        return [agent for agent in agents if agent.agent == "pixel-wall"]

    assert await named("") == []
    (agent,) = await named("?ended=true")
    assert (agent.labels, agent.slots, agent.version) == (("shown",), 7, "1.2")
    assert not agent.alive
    assert agent.ended_at is not None


async def test_home_is_a_page_for_browsers_and_a_line_for_curl(own_api: Api) -> None:
    """The first thing that anybody opens."""
    line = await own_api.call("GET", "/", headers={"Accept": "*/*"})
    assert line.text.count("\n") == 1
    assert line.headers["content-type"].startswith("text/plain")
    await own_api.submit()
    page = await own_api.call("GET", "/", headers={"Accept": "text/html,*/*"})
    assert page.headers["content-type"].startswith("text/html")
    assert '<bdi class="label">nobody</bdi>' in page.text
    for link in re.findall(r'href="(/[^"]*)"', page.text):
        assert (await own_api.call("GET", link)).status == 200, link


async def test_metrics_count_what_was_done(own_api: Api) -> None:
    """For Prometheus: counters go up by what happened, the queue is what it is now."""

    async def value(name: str) -> float:
        text = (await own_api.call("GET", "/metrics")).text
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0

    names = [
        "dw_tasks_submitted_total",
        "dw_tasks_claimed_total",
        'dw_results_total{verdict="ok"}',
    ]
    before = [await value(name) for name in names]
    session, task = await own_api.started()
    assert await value('dw_tasks{status="in_progress"}') == 1
    await own_api.report(session, [], [exited(task.lease)])
    assert [await value(name) for name in names] == [each + 1 for each in before]
    assert await value('dw_tasks{status="in_progress"}') == 0


async def test_an_array_is_answered_in_its_order(api: Api) -> None:
    """One answer for each, and none for none."""
    body = [{"command": "x", "needs": ["nobody"], "name": f"n{n}"} for n in range(50)]
    answers = (await api.post("/tasks", body)).as_(list[Submitted])
    names = {task.id: task.name for task in (await _page(api, "limit=50")).tasks}
    assert [names[each.id] for each in answers] == [each["name"] for each in body]
    assert (await api.post("/tasks", [])).as_(list[Submitted]) == []
