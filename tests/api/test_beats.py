"""Beats: cancellations in milliseconds, lost replies repaired, the dead told that they are dead."""

import asyncio

import asyncpg

from schema.tasks import Task
from tests.api.conftest import StartApi
from tests.api.server import Api, eventually, exited


async def _cancel(api: Api, number: int) -> Task:
    return (await api.call("POST", f"/tasks/{number}/cancel")).as_(Task)


async def test_a_quiet_beat_lasts_its_wait_and_no_longer_than_a_third_of_the_lease(
    start_api: StartApi,
) -> None:
    """The next one must come in time, even if this one's reply is lost."""
    loop = asyncio.get_running_loop()
    async with start_api(lease_s=3) as api:
        session = await api.open()
        begun = loop.time()
        reply = await api.beat(session, wait=60)
        assert 0.9 <= loop.time() - begun < 2.5
        # Renewed while it was parked, and counted from its sending: else an agent that only beats
        # would see a third of each lease proven, and end its exclusive tasks.
        assert 3 <= reply.lease_s < 3 + loop.time() - begun
        assert (reply.cancel, reply.redeliver, reply.drain) == ((), (), False)


async def test_a_cancellation_wakes_the_beat(api: Api) -> None:
    """People press cancel and see it happen."""
    session, task = await api.started()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(api.beat(session, held=[[task.id, 1]], wait=20))
        for _ in range(5):
            await api.call("GET", "/health/live")
        assert not waiting.done()
        assert (await _cancel(api, task.id)).status == "in_progress"
    assert waiting.result().cancel == ((task.id, 1),)
    assert (await api.task(task.id)).cancel_requested


async def test_a_cancellation_at_one_server_wakes_the_beat_at_another(start_api: StartApi) -> None:
    """The agent's connection is wherever the kernel put it."""
    async with start_api() as one, start_api() as other:
        session, task = await one.started()
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(one.beat(session, held=[[task.id, 1]], wait=20))
            for _ in range(5):
                await one.call("GET", "/health/live")
            begun = asyncio.get_running_loop().time()
            await _cancel(other, task.id)
        assert waiting.result().cancel == ((task.id, 1),)
        assert asyncio.get_running_loop().time() - begun < 5


async def test_a_cancelled_attempt_ends_the_task(api: Api) -> None:
    """The agent stopped it and says so."""
    session, task = await api.started(max_attempts=5)
    await _cancel(api, task.id)
    result = {"lease": task.lease, "reason": "cancelled", "signal": 15}
    assert await api.report(session, [], [result]) == ["ok"]
    over = await api.task(task.id)
    assert (over.status, over.reason, over.signal) == ("cancelled", "cancelled", 15)
    assert (await _cancel(api, task.id)).status == "cancelled"


async def test_a_result_that_came_first_wins_over_the_cancellation(api: Api) -> None:
    """The command was done already: what it did stands."""
    session, task = await api.started()
    await _cancel(api, task.id)
    assert await api.report(session, [], [exited(task.lease)]) == ["ok"]
    assert (await api.task(task.id)).status == "succeeded"


async def test_a_cancel_that_the_agent_knows_does_not_end_its_beat(api: Api) -> None:
    """The task takes its time to die: meanwhile the beat must not spin."""
    session, task = await api.started()
    await _cancel(api, task.id)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    reply = await api.beat(session, cancelling=[[task.id, 1]], wait=0.4)
    assert loop.time() - begun >= 0.35
    assert reply.cancel == ((task.id, 1),)


async def test_a_claim_whose_reply_was_lost_is_delivered_again(api: Api) -> None:
    """It costs one beat, not a lease. What the agent has is not sent twice."""
    session, task = await api.started(command="echo lost", env={"A": "1"})
    reply = await api.beat(session, held=[], wait=20)
    assert [(each.id, each.attempt, each.lease) for each in reply.redeliver] == [
        (task.id, 1, task.lease)
    ]
    assert (reply.redeliver[0].command, reply.redeliver[0].env) == ("echo lost", {"A": "1"})
    assert (await api.beat(session, held=[[task.id, 1]])).redeliver == ()
    assert (await api.beat(session)).redeliver == ()


async def test_what_an_agent_no_longer_owns_it_is_told_to_end(api: Api) -> None:
    """A stale attempt is killed: another one counts now, or the task is over."""
    session, task = await api.started()
    await api.report(session, [], [exited(task.lease)])
    held = [[task.id, 1], [task.id, 7], [10**15, 1]]
    reply = await api.beat(session, held=held, wait=20)
    assert sorted(reply.cancel) == [(task.id, 1), (task.id, 7), (10**15, 1)]


async def test_a_wish_to_drain_comes_with_the_beat(
    start_api: StartApi, database: asyncpg.Connection
) -> None:
    """It comes once, at the latest with the next renewal; who knows of it is not woken."""
    loop = asyncio.get_running_loop()
    async with start_api(lease_s=5) as api:
        session = await api.open()
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(api.beat(session, wait=20))
            await database.execute("UPDATE sessions SET drain = true")
        assert waiting.result().drain
        begun = loop.time()
        assert (await api.beat(session, draining=True, wait=0.3)).drain
        assert loop.time() - begun >= 0.25


async def test_a_closed_session_is_gone_for_good(api: Api) -> None:
    """On every route: the agent must open a new one."""
    session = await api.open()
    await api.beat(session, closing=True)
    for path, body in (
        ("/beats", {}),
        ("/beats", {"wait": 10}),
        ("/claims", {}),
        ("/claims", {"wait": 10}),
        ("/reports", {}),
    ):
        (await api.post(path, {"session": session} | body)).problem(410, "open a new one")


async def test_a_parked_beat_ends_with_its_session(start_api: StartApi) -> None:
    """A session that was replaced hears of it, at any server, without a task of its own."""
    async with start_api(lease_s=3) as one, start_api(lease_s=3) as other:
        session = await one.open()
        await other.open(replaces=session)

        async def status() -> int:
            return (await one.post("/beats", {"session": session, "wait": 5})).status

        await eventually(status, lambda each: each == 410)


async def test_a_successor_gets_the_tasks_of_the_session_that_it_replaces(api: Api) -> None:
    """The agent was killed and started again: its tasks need not wait for the lease."""
    dead, task = await api.started()
    (label,) = (await api.task(task.id)).needs
    session = await api.open(label, replaces=dead)
    (again,) = await api.claim(session, wait=20)
    assert (again.id, again.attempt) == (task.id, 2)
    assert await api.report(session, [], [exited(task.lease)]) == ["stale"]
    assert await api.report(session, [], [exited(again.lease)]) == ["ok"]
    over = await api.task(task.id)
    assert isinstance(over.attempts, tuple)
    assert [(each.attempt, each.reason, each.message) for each in over.attempts] == [
        (1, "agent_lost", "agent tester died, and was started again")
    ]


async def test_an_unknown_predecessor_is_no_obstacle(api: Api) -> None:
    """Its database was thrown away, or the spool is from elsewhere."""
    session = await api.open(replaces="never was")
    assert (await api.beat(session)).lease_s > 0


async def test_an_unknown_field_of_a_newer_agent_is_ignored(api: Api) -> None:
    """Old servers meet new agents."""
    session = await api.open(colour="blue")
    await api.beat(session, mood="good")
    reply = await api.post("/claims", {"session": session, "taste": "sweet"})
    assert reply.status == 200
    report = {"session": session, "smell": 1, "results": [{"lease": "x", "reason": "exit", "a": 1}]}
    assert (await api.post("/reports", report)).status == 200
