"""Tasks that somebody waits for are his when they are stored."""

import asyncio
from typing import Any

import asyncpg

from schema.claims import ClaimedTask
from schema.tasks import Submitted
from tests.api.conftest import StartApi
from tests.api.server import Api, eventually, exited

_FAR = "2999-01-01T00:00:00Z"


async def _opened(api: Api, label: str) -> str:
    """Open a session whose labels select a lane that is known."""
    await api.submit(needs=[label], run_after=_FAR)
    return await api.open(label)


async def _parked_claim(api: Api, session: str) -> "asyncio.Task[list[ClaimedTask]]":
    """Claim and let the server, which answers in order on one loop, look once in vain."""
    claim = asyncio.ensure_future(api.claim(session, wait=30))
    for _ in range(50):
        await api.call("GET", "/health/live")
    assert not claim.done()
    return claim


async def _given_at_once(
    api: Api, session: str, tasks: list[dict[str, Any]]
) -> tuple[list[Submitted], list[ClaimedTask]]:
    """Submit while a claim is parked: the answers, and what it was given.

    Whether it is parked already cannot be seen from outside: until then a claim takes the task.
    """

    async def tried() -> tuple[list[Submitted], list[ClaimedTask]]:
        claim = await _parked_claim(api, session)
        answers = (await api.post("/tasks", tasks)).as_(list[Submitted])
        return answers, await claim

    return await eventually(
        tried, lambda seen: "in_progress" in [answer.status for answer in seen[0]]
    )


async def test_a_task_that_is_waited_for_is_stored_as_claimed(
    start_api: StartApi, database: asyncpg.Connection
) -> None:
    """It is written once, and its agent has it as soon as it is on the disk."""
    async with start_api() as api:
        session = await _opened(api, "waited-for")
        sent = {"command": "echo x", "needs": ["waited-for"], "env": {"A": "1"}, "timeout": 5}
        (answer,), (task,) = await _given_at_once(api, session, [sent])
        assert answer.created
        assert (task.id, task.attempt, task.command) == (answer.id, 1, "echo x")
        assert (task.env, task.timeout) == ({"A": "1"}, 5)
        updated_by = await database.fetchval("SELECT xmax::text FROM tasks WHERE id = $1", task.id)
        assert updated_by == "0"
        assert await api.report(session, [], [exited(task.lease)]) == ["ok"]
        assert (await api.task(task.id)).status == "succeeded"


async def test_the_most_urgent_goes_to_who_waits(start_api: StartApi) -> None:
    """One slot is free, and three tasks come at once."""
    async with start_api() as api:
        session = await _opened(api, "urgent")
        tasks: list[dict[str, Any]] = [
            {"command": str(priority), "needs": ["urgent"], "priority": priority}
            for priority in (3, 8, 5)
        ]
        answers, claimed = await _given_at_once(api, session, tasks)
        assert [answer.status for answer in answers] == ["pending", "in_progress", "pending"]
        assert [task.command for task in claimed] == ["8"]


async def test_who_got_nothing_waits_on(start_api: StartApi) -> None:
    """A key that is there already, a conflict, a task for later: the waiter stays where it was."""
    async with start_api() as api:
        session = await _opened(api, "waits-on")
        known = {"command": "known", "needs": ["waits-on"], "key": "k", "run_after": _FAR}
        await api.post("/tasks", known)
        claim = await _parked_claim(api, session)
        assert not (await api.post("/tasks", known)).as_(Submitted).created
        conflicting = known | {"run_after": None}
        (await api.post("/tasks", conflicting)).problem(409, "k")
        later = {"command": "later", "needs": ["waits-on"], "run_after": _FAR}
        assert (await api.post("/tasks", later)).as_(Submitted).status == "scheduled"
        assert not claim.done()
        number = await api.submit(needs=["waits-on"])
        assert [task.id for task in await claim] == [number]


async def test_a_waiter_that_goes_away_meanwhile_has_it_by_its_next_beat(
    start_api: StartApi, database: asyncpg.Connection
) -> None:
    """The task was stored as its own: it is delivered again, not lost."""
    async with start_api() as api:
        session = await _opened(api, "went-away")
        claim = await _parked_claim(api, session)

        async def submitting() -> bool:
            return bool(
                await database.fetchval(
                    "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation ="
                    " 'tasks'::regclass"
                )
            )

        async with database.transaction():
            await database.execute("LOCK TABLE tasks IN SHARE ROW EXCLUSIVE MODE")
            submission = asyncio.ensure_future(api.submit(needs=["went-away"]))
            await eventually(submitting, bool)
            claim.cancel()
            await asyncio.wait([claim])
        number = await submission
        reply = await api.beat(session, held=[])
        assert [task.id for task in reply.redeliver] == [number]


async def test_an_isolated_task_that_is_waited_for_is_given_with_what_it_asks(
    start_api: StartApi,
) -> None:
    """What is stored as claimed must not run with less than it asked for."""
    async with start_api() as api:
        await api.submit(needs=["boxed"], image="a:1", run_after=_FAR)
        session = await api.open("boxed", "isolation=docker")
        sent = {"command": "echo x", "needs": ["boxed"], "image": "python:3.12"}
        (answer,), (task,) = await _given_at_once(api, session, [sent])
        assert answer.status == "in_progress"
        assert (task.isolation, task.image) == ("docker", "python:3.12")
