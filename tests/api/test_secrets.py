"""Secrets go to the agent that runs the task, and nowhere else."""

import asyncio
from typing import Any

import asyncpg
import msgspec
import pytest

from schema.tasks import Submitted, Task
from tests.api.conftest import StartApi
from tests.api.server import Api, Reply, eventually, exited

_KEY, _NEW = "00" * 32, "11" * 32
_SECRETS = {"NPM_TOKEN": "hunter2-hunter2", "PEM": "its first row\nits second row\n"}


@pytest.fixture
def start(start_api: StartApi) -> Any:
    """Start servers that have a key."""
    return lambda **settings: start_api(**{"secrets_key": _KEY} | settings)


async def _submit(api: Api, label: str, **fields: Any) -> Reply:
    return await api.post(
        "/tasks", {"command": "true", "needs": [label], "secrets": _SECRETS} | fields
    )


def _number(reply: Reply) -> int:
    return int(reply.as_(dict[str, Any])["id"])


async def test_the_agent_is_given_them_and_nobody_else(start: StartApi) -> None:
    """Every route that tells of the task is asked, before and after it ran."""
    async with start() as api:
        number = _number(await _submit(api, "a", group="g", key="k", name="n"))
        session = await api.open("a", keeps_secrets=True)
        seen = await _look(api, number)
        (task,) = await api.claim(session, wait=10)
        assert (task.id, task.secrets, task.env) == (number, _SECRETS, None)
        seen += await _look(api, number)
        assert await api.report(session, [], [exited(task.lease, 1)]) == ["ok"]
        seen += [(await api.call("POST", f"/tasks/{number}/retry")).body]
        seen += [(await api.call("POST", f"/tasks/{number}/cancel")).body]
        seen += await _look(api, number)
        conflict = await _submit(api, "a", group="g", key="k", name="other")
        seen += [conflict.problem(409).detail.encode()]
        shown = await api.task(number)
        assert shown.secrets == ("NPM_TOKEN", "PEM")
    for body in seen:
        for value in ("hunter2", "first row", "second row", "keeps secrets"):
            assert value.encode() not in body, body


async def _look(api: Api, number: int) -> list[bytes]:
    paths = (
        "/tasks", f"/tasks/{number}", "/tasks?group=g", "/groups/g", "/agents?ended=true", "/audit",
        "/metrics", "/queue", f"/tasks/{number}/explain", f"/tasks/{number}/logs", "/",
        "/schema/openapi.json",
    )  # fmt: skip
    replies = [await api.call("GET", path) for path in paths]
    assert all(reply.status == 200 for reply in replies)
    return [reply.body for reply in replies]


async def test_who_waits_for_such_a_task_is_given_it_as_it_is_stored(start: StartApi) -> None:
    """It is claimed by the statement that stores it, and its secrets are there by then."""
    async with start() as api:
        await _submit(api, "a", run_after="2999-01-01T00:00:00Z")  # now the lane is known
        session = await api.open("a", keeps_secrets=True)

        async def tried() -> tuple[str, bool]:
            claim = asyncio.ensure_future(api.claim(session, wait=20))
            for _ in range(50):  # whether it is parked cannot be seen from outside
                await api.call("GET", "/health/live")
            answer = (await _submit(api, "a")).as_(Submitted)
            (task,) = await claim
            return answer.status, (task.id, task.secrets) == (answer.id, _SECRETS)

        assert await eventually(tried, lambda seen: seen[0] == "in_progress") == (
            "in_progress", True,
        )  # fmt: skip


async def test_a_lost_reply_is_delivered_again_with_them(start: StartApi) -> None:
    """The beat gives what the claim gave."""
    async with start() as api:
        number = _number(await _submit(api, "a"))
        session = await api.open("a", keeps_secrets=True)
        await api.claim(session, wait=10)
        (task,) = (await api.beat(session, held=[])).redeliver
        assert (task.id, task.secrets) == (number, _SECRETS)


async def test_agents_that_know_nothing_of_secrets_are_given_none_of_these_tasks(
    start: StartApi,
) -> None:
    """They would run the command without its variables, and write what they find into the log."""
    async with start() as api:
        with_secrets = _number(await _submit(api, "a"))
        anybodys = _number(await _submit(api, "a", needs=[]))
        plain = await api.submit(needs=[])
        old = await api.open("a")
        assert [task.id for task in await api.claim(old, 9)] == [plain]
        pulled = (await api.call("POST", "/tasks/pull")).body
        assert pulled == b"null"
        new = await api.open("a", keeps_secrets=True)
        assert {task.id for task in await api.claim(new, 9)} == {with_secrets, anybodys}
        agents = msgspec.json.decode((await api.call("GET", "/agents")).body)
        assert [agent["labels"] for agent in agents] == [["a"], ["a"]]


async def test_another_server_over_the_same_database_knows_which_agents_keep_them(
    start: StartApi,
) -> None:
    """An agent's requests may go to any of them."""
    async with start() as one, start() as other:
        session = await one.open("a", keeps_secrets=True)
        number = _number(await _submit(other, "a"))
        (task,) = await other.claim(session, wait=10)
        assert (task.id, task.secrets) == (number, _SECRETS)


async def test_without_a_key_they_are_refused(own_api: Api) -> None:
    """Stored in clear they would be in every copy of the database; the problem says what to do."""
    (await _submit(own_api, "a")).problem(422, "SECRETS_KEY", "openssl rand -base64 32")
    body = [{"command": "true"}, {"command": "true", "secrets": _SECRETS}]
    (await own_api.post("/tasks", body)).problem(422, "$[1].secrets")
    assert (await own_api.call("GET", "/tasks")).as_(dict[str, Any])["tasks"] == []
    assert (await _submit(own_api, "a", secrets={})).status == 201


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"secrets": {"A": "short"}}, ["fewer than 6", "$.secrets.A"]),
        ({"secrets": {"A": "  short \n"}}, ["fewer than 6", "$.secrets.A"]),
        ({"secrets": {"A": "hunter2-"}, "env": {"A": "1"}}, ["`env` too", "$.secrets.A"]),
        ({"secrets": {"A": "hunter2-" * 8200}}, ["65536", "$.secrets"]),
        ({"secrets": {"A": "hunter2-" * 17000}}, ["$.secrets"]),
        ({"secrets": {"A": "hunter2-\n" * 200}}, ["201 lines", "200"]),
        ({"secrets": {f"A{n}": "hunter2-" for n in range(33)}}, ["32", "$.secrets"]),
        ({"secrets": {"A": "hunter2-\0"}}, ["$.secrets"]),
        ({"secrets": {"A=B": "hunter2-"}}, ["$.secrets"]),
        ({"secrets": {"A": 12345678}}, ["$.secrets"]),
        ({"secrets": ["hunter2-"]}, ["$.secrets"]),
    ],
)
async def test_what_cannot_be_kept_secret_is_refused(
    start: StartApi, fields: dict[str, Any], said: list[str]
) -> None:
    """The problem names the limit and the variable, and never the value."""
    async with start() as api:
        problem = (await _submit(api, "a", **fields)).problem(400, *said)
        assert "hunter2" not in problem.detail


async def test_with_a_new_key_in_front_old_tasks_still_run(start: StartApi) -> None:
    """Rotation: add the new key everywhere, and leave the old one out when nothing needs it."""
    async with start() as api:
        old = _number(await _submit(api, "a", key="k"))
    async with start(secrets_key=f"{_NEW},{_KEY}") as api:
        assert _number(await _submit(api, "a", key="k")) == old
        new = _number(await _submit(api, "a"))
        session = await api.open("a", keeps_secrets=True)
        tasks = await api.claim(session, 2, wait=10)
        assert {task.id: task.secrets for task in tasks} == {old: _SECRETS, new: _SECRETS}


async def test_a_task_whose_secrets_cannot_be_opened_does_not_run(start: StartApi) -> None:
    """Run without them, it would fail in the middle; its message says what is missing."""
    async with start() as api:
        number = _number(await _submit(api, "a"))
        other = _number(await api.post("/tasks", {"command": "true", "needs": ["a"]}))
    async with start(secrets_key=None, crash_limit=1) as api:
        session = await api.open("a", keeps_secrets=True)
        tasks = await api.claim(session, 2, wait=10)
        assert [task.id for task in tasks] == [other]
        task = await api.until(number, "failed")
        assert task.reason == "spawn_error"
        assert task.message is not None
        assert "SECRETS_KEY" in task.message
        assert (await api.beat(session, held=[[other, 1]])).redeliver == ()


async def test_a_row_copied_to_another_task_does_not_open(
    start: StartApi, database: asyncpg.Connection
) -> None:
    """Whoever can write to the database could else have a task of theirs print them."""
    async with start(crash_limit=1) as api:
        mine = _number(await _submit(api, "a", secrets={"A": "mine-mine"}))
        theirs = _number(await _submit(api, "b"))
        await database.execute(
            "UPDATE task_secrets SET sealed = (SELECT sealed FROM task_secrets WHERE task = $1)"
            " WHERE task = $2",
            theirs, mine,
        )  # fmt: skip
        session = await api.open("a", keeps_secrets=True)
        assert await api.claim(session, wait=1) == []
        task = await api.until(mine, "failed")
        assert task.message is not None
        assert "another task's" in task.message


async def test_a_retry_needs_the_secrets(start: StartApi, database: asyncpg.Connection) -> None:
    """They are dropped when the task succeeds: then it has to be submitted again."""
    async with start() as api:
        number = _number(await _submit(api, "a"))
        session = await api.open("a", keeps_secrets=True)
        for code in (1, 0):
            (task,) = await api.claim(session, wait=10)
            assert task.secrets == _SECRETS
            assert await api.report(session, [], [exited(task.lease, code)]) == ["ok"]
            if code:
                assert (await api.call("POST", f"/tasks/{number}/retry")).as_(
                    Task
                ).status == "pending"
        assert await database.fetchval("SELECT count(*) FROM task_secrets") == 0
        (await api.call("POST", f"/tasks/{number}/retry")).problem(
            409, "secrets", "submit it again"
        )


async def test_many_claims_at_once_are_each_given_their_own(start: StartApi) -> None:
    """Statements are shared by those who wait; secrets must not be."""
    async with start() as api:
        wanted = {}
        for number in range(20):
            secrets = {"A": f"value of {number}"}
            wanted[_number(await _submit(api, f"l{number % 5}", secrets=secrets))] = secrets
        sessions = [await api.open(f"l{number}", keeps_secrets=True) for number in range(5)]
        given = await asyncio.gather(*(api.claim(one, 4, wait=5) for one in sessions))
        assert {task.id: task.secrets for tasks in given for task in tasks} == wanted


async def test_upkeep_drops_what_nobody_will_need(
    start: StartApi, database: asyncpg.Connection
) -> None:
    """It runs at the start of a server, and every ten minutes."""
    async with start() as api:
        number = _number(await _submit(api, "a"))
        await api.call("POST", f"/tasks/{number}/cancel")
    await database.execute("UPDATE tasks SET finished_at = now() - interval '40 days'")
    async with start(log_days=30):

        async def left() -> int:
            return int(await database.fetchval("SELECT count(*) FROM task_secrets"))

        assert await eventually(left, lambda count: count == 0) == 0
