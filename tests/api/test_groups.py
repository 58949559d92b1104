"""Groups as a whole over HTTP: listed, cancelled, run again; and the queue."""

import asyncio

import asyncpg
import pytest

from schema.audit import AuditPage
from schema.queue import Queue
from schema.tasks import Group, GroupCancelled, GroupPage, GroupRetried, Submitted
from tests.api.server import Api, exited


async def _many(api: Api, count: int, **fields: object) -> list[int]:
    body = [{"command": "true", "needs": ["nobody"]} | fields] * count
    return [each.id for each in (await api.post("/tasks", body)).as_(list[Submitted])]


async def _group(api: Api, name: str, query: str = "") -> Group:
    return (await api.call("GET", f"/groups/{name}{query}")).as_(Group)


async def test_a_large_group_is_cancelled_in_steps(own_api: Api) -> None:
    """One transaction of a hundred thousand tasks would slow every claim while it is open."""
    numbers = await _many(own_api, 2500, group="large")
    other = await own_api.submit(group="other")
    done = (await own_api.call("POST", "/groups/large/cancel")).as_(GroupCancelled)
    assert (done.name, done.cancelled, done.asked) == ("large", 2500, 0)
    assert (await _group(own_api, "large")).counts == {"cancelled": 2500}
    assert (await own_api.task(other)).status == "pending"
    page = (await own_api.call("GET", "/audit")).as_(AuditPage)
    steps = [each for each in page.entries if each.action == "group cancelled"][::-1]
    assert [(each.task, each.tasks) for each in steps] == [
        (numbers[0], 1000),
        (numbers[1000], 1000),
        (numbers[2000], 500),
    ]
    assert {(each.who, each.about) for each in steps} == {("loopback without tokens", "large")}
    again = (await own_api.call("POST", "/groups/large/cancel")).as_(GroupCancelled)
    assert (again.cancelled, again.asked) == (0, 0)


async def test_claims_go_on_while_a_group_waits_for_a_row(
    own_api: Api, database: asyncpg.Connection
) -> None:
    """Somebody holds one row of the group: what others need is claimed meanwhile."""
    first, *_ = await _many(own_api, 5, group="held", needs=["wanted"])
    await own_api.submit(needs=["wanted"], command="free")
    session = await own_api.open("wanted")
    async with asyncio.TaskGroup() as group:
        async with database.transaction():
            await database.execute("SELECT FROM tasks WHERE id = $1 FOR UPDATE", first)
            cancelling = group.create_task(own_api.call("POST", "/groups/held/cancel"))
            async with asyncio.timeout(10):
                while not await database.fetchval(
                    "SELECT count(*) FROM pg_locks WHERE NOT granted"
                ):
                    await asyncio.sleep(0.01)
            assert len(await own_api.claim(session, wait=10)) == 1
        done = (await cancelling).as_(GroupCancelled)
    # The second one, since claims pass by what is locked: it runs now, and is asked to end.
    assert (done.cancelled, done.asked) == (4, 1)


async def test_what_runs_is_ended_by_its_agent(api: Api) -> None:
    """The beat that waits at the server brings it at once."""
    session, task = await api.started(group="runs/all")
    waits = await api.submit(group="runs/all")
    beat = asyncio.ensure_future(api.beat(session, held=[[task.id, 1]], wait=30))
    done = (await api.call("POST", "/groups/runs%2Fall/cancel")).as_(GroupCancelled)
    assert (done.cancelled, done.asked) == (1, 1)
    async with asyncio.timeout(10):
        assert (await beat).cancel == ((task.id, 1),)
    assert (await api.task(waits)).status == "cancelled"
    again = (await api.call("POST", "/groups/runs/all/cancel")).as_(GroupCancelled)
    assert (again.cancelled, again.asked) == (0, 1)


async def test_what_failed_runs_again_at_once(api: Api) -> None:
    """A claim that waits is given it; what succeeded stays as it is."""
    session, task = await api.started(group="retried")
    good, other = await api.started(group="retried")
    assert await api.report(session, [], [exited(task.lease, 3)]) == ["ok"]
    assert await api.report(good, [], [exited(other.lease)]) == ["ok"]
    waiting = asyncio.ensure_future(api.claim(session, wait=30))
    before = (await _group(api, "retried")).counted_at
    body = {"ended_before": before}
    reply = await api.post("/groups/retried/retry", body)
    assert reply.as_(GroupRetried) == GroupRetried("retried", 1)
    async with asyncio.timeout(10):
        (again,) = await waiting
    assert (again.id, again.attempt) == (task.id, 2)
    assert (await api.task(other.id)).status == "succeeded"
    assert await api.report(session, [], [exited(again.lease, 3)]) == ["ok"]
    late = await api.post("/groups/retried/retry", body)
    assert late.as_(GroupRetried).retried == 0  # the same wish, sent again: that failure is new
    everything = {"status": ["failed", "succeeded", "cancelled"]}
    assert (await api.post("/groups/retried/retry", everything)).as_(GroupRetried).retried == 2


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"status": []}, "$.status"),
        ({"status": ["pending"]}, "pending"),
        ({"statuses": ["failed"]}, "statuses"),
        ({"ended_before": "2026-01-01T00:00:00"}, "offset"),
        ({"ended_before": "soon"}, "$.ended_before"),
    ],
)
async def test_a_bad_retry_is_named(api: Api, body: dict[str, object], word: str) -> None:
    """A typo must not run a whole night again."""
    await api.submit(group="bad retry")
    (await api.post("/groups/bad%20retry/retry", body)).problem(400, word)


@pytest.mark.parametrize("act", ["cancel", "retry"])
@pytest.mark.parametrize("name", ["nobody", "a%00b"])
async def test_a_group_that_nobody_named(api: Api, act: str, name: str) -> None:
    """404, as for a look at it."""
    (await api.call("POST", f"/groups/{name}/{act}")).problem(404, "there is no group")


async def test_groups_are_a_list_with_counts(own_api: Api) -> None:
    """Newest first, page by page; what has no group is not in it."""
    for name in ("nightly-1", "nightly-2", "smoke", "nightly-3"):
        await own_api.submit(group=name)
    await own_api.submit()
    await own_api.submit(group="nightly-1")
    page = (await own_api.call("GET", "/groups?limit=3")).as_(GroupPage)
    assert [group.name for group in page.groups] == ["nightly-3", "smoke", "nightly-2"]
    assert page.groups[0].counts == {"pending": 1}
    rest = (await own_api.call("GET", f"/groups?limit=3&cursor={page.next}")).as_(GroupPage)
    assert [(group.name, group.total) for group in rest.groups] == [("nightly-1", 2)]
    assert rest.next is None
    found = (await own_api.call("GET", "/groups?contains=NIGHTLY-2")).as_(GroupPage)
    assert [group.name for group in found.groups] == ["nightly-2"]


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "cursor=x", "contains=a%00b"])
async def test_a_bad_page_of_groups_is_named(api: Api, query: str) -> None:
    """As that of tasks."""
    (await api.call("GET", f"/groups?{query}")).problem(400, query.partition("=")[0])


async def test_the_slowest_are_told_where_they_are_asked_for(api: Api) -> None:
    """Whole tasks, the longest first."""
    session, quick = await api.started(group="slowest")
    other, slow = await api.started(group="slowest", name="the slow one")
    assert await api.report(session, [], [exited(quick.lease, run_s=1)]) == ["ok"]
    assert await api.report(other, [], [exited(slow.lease, run_s=100)]) == ["ok"]
    group = await _group(api, "slowest", "?slowest=1")
    assert [task.name for task in group.slowest or ()] == ["the slow one"]
    assert b"slowest" not in (await api.call("GET", "/groups/slowest")).body.replace(
        b'"name":"slowest"', b""
    )
    (await api.call("GET", "/groups/slowest?slowest=101")).problem(400, "slowest")


async def test_the_queue_is_told_lane_by_lane(own_api: Api) -> None:
    """The longest first; the age of what is claimed next."""
    await own_api.started()
    await own_api.submit(run_after="2199-01-01T00:00:00Z")
    await _many(own_api, 3, needs=["b", "a"])
    first = await own_api.submit(needs=["c"])
    queue = (await own_api.call("GET", "/queue")).as_(Queue)
    assert (queue.pending, queue.scheduled, queue.in_progress) == (4, 1, 1)
    assert [(lane.needs, lane.pending) for lane in queue.lanes] == [(("a", "b"), 3), (("c",), 1)]
    assert queue.lanes[1].oldest == (await own_api.task(first)).submitted_at
