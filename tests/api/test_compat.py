"""The compatible routes: an agent written for the original system works unmodified."""

import asyncio
import gzip
from typing import Any

import asyncpg
import msgspec
import pytest

from schema.tasks import Task, TaskPage
from tests.api.compat_agent import CompatAgent
from tests.api.server import Api, Reply, eventually, exited


async def _pull(api: Api) -> dict[str, Any] | None:
    task: dict[str, Any] | None = msgspec.json.decode((await api.call("POST", "/tasks/pull")).body)
    return task


async def _log(api: Api, number: int, content: str, index: int = 0, kind: str = "stdout") -> Reply:
    body = {"kind": kind, "index": index, "content": content}
    return await api.post(f"/tasks/{number}/logs", body)


async def _end(api: Api, number: int, status: str = "succeeded") -> Reply:
    return await api.call("PATCH", f"/tasks/{number}/status", json={"status": status})


@pytest.fixture
async def pulled(own_api: Api) -> tuple[Api, int]:
    """Give a test a task in the hands of a legacy agent."""
    number = await own_api.submit(needs=[])
    task = await _pull(own_api)
    assert task is not None
    assert task["id"] == number
    return own_api, number


async def test_an_agent_of_the_original_system_runs_twenty_tasks(own_api: Api) -> None:
    """No line is lost, also where the status comes before the last batches."""
    script = "for i in $(seq 1 {n}); do echo out $i of {n}; echo err $i >&2; done; exit {code}"
    group = "original"
    bodies = [
        {"command": script.format(n=3 * number, code=number % 3), "group": group}
        for number in range(20)
    ]
    assert (await own_api.post("/tasks", bodies)).status == 201
    agents = [
        CompatAgent(own_api.http, own_api.url, eager=eager, poll_s=0.05) for eager in (False, True)
    ] * 2

    async def tasks() -> list[Task]:
        page = (await own_api.call("GET", f"/tasks?group={group}")).as_(TaskPage)
        return sorted(page.tasks, key=lambda task: task.id)

    async with asyncio.TaskGroup() as running:
        loops = [running.create_task(agent.run()) for agent in agents]
        await eventually(
            tasks, lambda each: {task.status for task in each} <= {"succeeded", "failed"}, 30
        )
        await eventually(_count(agents), lambda done: done == 20)
        for loop in loops:
            loop.cancel()
    for number, task in enumerate(await tasks()):
        assert task.status == ("failed" if number % 3 else "succeeded"), task
        assert task.reason == "exit"
        lines = range(1, 3 * number + 1)
        out = "".join(f"out {line} of {3 * number}\n" for line in lines)
        assert await own_api.log(task.id, stream="stdout") == out
        assert await own_api.log(task.id, stream="stderr") == "".join(
            f"err {line}\n" for line in lines
        )


def _count(agents: list[CompatAgent]) -> Any:
    async def done() -> int:
        return len({number for agent in agents for number in agent.done})

    return done


async def test_nothing_to_do_is_null(own_api: Api) -> None:
    """The agent polls again later."""
    reply = await own_api.call("POST", "/tasks/pull")
    assert (reply.status, reply.body) == (200, b"null")
    assert reply.headers["content-type"].startswith("application/json")


async def test_a_task_that_needs_a_label_is_not_given_away(own_api: Api) -> None:
    """Such an agent has none."""
    await own_api.submit(needs=["android"])
    assert await _pull(own_api) is None
    number = await own_api.submit(needs=[], command="echo hi")
    assert await _pull(own_api) == {"id": number, "command": "echo hi"}
    assert (await own_api.task(number)).agent is None


async def test_answers_are_empty_objects(pulled: tuple[Api, int]) -> None:
    """The original agent reads them as JSON."""
    api, number = pulled
    for reply in (await _log(api, number, "x"), await _end(api, number)):
        assert (reply.status, reply.body) == (200, b"{}")


async def test_lines_come_back_as_lines(pulled: tuple[Api, int]) -> None:
    """The newline that the batch left out is put back, an empty line is one."""
    api, number = pulled
    for index, content in enumerate(["a\nb", "", "ü", "\n", "c"]):
        await _log(api, number, content, index)
    await _log(api, number, "err", 0, "stderr")
    assert await api.log(number, stream="stdout") == "a\nb\n\nü\n\n\nc\n"
    assert await api.log(number, stream="stderr") == "err\n"


async def test_batches_are_read_in_the_order_of_their_numbers(pulled: tuple[Api, int]) -> None:
    """However they arrive; a batch that overtook another one waits for it."""
    api, number = pulled
    await _log(api, number, "2", 2)
    assert await api.log(number) == ""
    await _log(api, number, "0", 0)
    assert await api.log(number) == "0\n"
    await _log(api, number, "1", 1)
    assert await api.log(number) == "0\n1\n2\n"
    assert await api.log(number, stream="stdout", offset=2) == "1\n2\n"


async def test_a_batch_sent_again_is_stored_once(pulled: tuple[Api, int]) -> None:
    """The reply was lost. With other lines it is a mistake that is not swallowed."""
    api, number = pulled
    for _ in range(3):
        assert (await _log(api, number, "x\ny")).status == 200
    (await _log(api, number, "other")).problem(409, "stdout batch 0")
    assert await api.log(number) == "x\ny\n"


async def test_a_large_batch_is_stored_whole(pulled: tuple[Api, int]) -> None:
    """512 KiB and more of lines, gzipped or not."""
    api, number = pulled
    content = "\n".join(f"line {n} {'ä' * 50}" for n in range(9000))
    body = msgspec.json.encode({"kind": "stdout", "index": 0, "content": content})
    headers = {"Content-Encoding": "gzip"}
    packed = gzip.compress(body)
    reply = await api.call("POST", f"/tasks/{number}/logs", data=packed, headers=headers)
    assert reply.status == 200
    await _log(api, number, content, 1)
    assert await api.log(number) == f"{content}\n{content}\n"


async def test_a_batch_larger_than_any_chunk_is_read_again(pulled: tuple[Api, int]) -> None:
    """Stored must mean readable: the route takes what the body's limit allows."""
    api, number = pulled
    content = "x" * 3_000_000
    assert (await _log(api, number, content)).status == 200
    assert await api.log(number) == content + "\n"
    assert await api.log(number, stream="stdout", offset=2_999_999) == "x\n"


async def test_a_batch_of_a_day_that_retention_took_is_refused(
    pulled: tuple[Api, int], database: asyncpg.Connection
) -> None:
    """Acknowledged it would be lost without a word."""
    api, number = pulled
    day = await database.fetchval("SELECT day FROM tasks WHERE id = $1", number)
    await database.execute(f"DROP TABLE log_chunks_{day:%Y%m%d}")
    for _ in range(2):
        (await _log(api, number, "x")).problem(410, "retention")


async def test_the_status_ends_the_task_and_a_late_batch_is_kept(pulled: tuple[Api, int]) -> None:
    """Such an agent may send its status first."""
    api, number = pulled
    await _log(api, number, "first")
    assert (await _end(api, number, "failed")).status == 200
    assert (await _log(api, number, "last", 1)).status == 200
    task = await api.task(number)
    assert (task.status, task.reason) == ("failed", "exit")
    assert await api.log(number) == "first\nlast\n"


async def test_a_status_sent_again_changes_nothing(pulled: tuple[Api, int]) -> None:
    """And another one than the first is refused."""
    api, number = pulled
    for _ in range(2):
        assert (await _end(api, number, "failed")).status == 200
    (await _end(api, number, "succeeded")).problem(409, "already failed")
    assert (await api.task(number)).status == "failed"


async def test_a_status_whose_attempt_is_over_by_then_is_refused(
    pulled: tuple[Api, int], database: asyncpg.Connection
) -> None:
    """The task was lost and pulled again while it was on its way: who sent it must know."""
    api, number = pulled
    async with asyncio.TaskGroup() as group, database.transaction():
        await database.execute("UPDATE tasks SET attempt = 2 WHERE id = $1", number)
        status = group.create_task(_end(api, number, "failed"))
        await eventually(
            lambda: database.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"), bool
        )
    status.result().problem(409, "already in_progress")
    assert (await api.task(number)).status == "in_progress"


async def test_a_failed_task_runs_again_if_it_was_asked_for(own_api: Api) -> None:
    """`max_attempts` counts here too."""
    number = await own_api.submit(needs=[], max_attempts=2)
    await _pull(own_api)
    assert (await _end(own_api, number, "failed")).status == 200
    again = await eventually(lambda: _pull(own_api), bool)
    assert again is not None
    assert again["id"] == number
    await _log(own_api, number, "second")
    await _end(own_api, number)
    task = await own_api.task(number)
    assert (task.status, task.attempt) == ("succeeded", 2)
    assert await own_api.log(number, attempt=2) == "second\n"
    assert await own_api.log(number, attempt=1) == ""


async def test_a_cancelled_task_is_over_at_once(pulled: tuple[Api, int]) -> None:
    """Such an agent cannot be asked; what it still sends changes nothing."""
    api, number = pulled
    assert (await api.call("POST", f"/tasks/{number}/cancel")).as_(Task).status == "cancelled"
    assert (await _log(api, number, "late")).status == 200
    (await _end(api, number)).problem(409, "already cancelled")
    assert (await api.task(number)).status == "cancelled"


async def test_a_task_of_another_agent_is_not_reached(api: Api) -> None:
    """Only its session may report it: a number alone proves nothing."""
    session, task = await api.started(max_attempts=2)
    for _ in range(2):
        (await _log(api, task.id, "x")).problem(409, "/tasks/pull")
        (await _end(api, task.id)).problem(409, "/tasks/pull")
        await api.report(session, [], [exited(task.lease, 1)])
    assert (await api.task(task.id)).status in {"scheduled", "pending"}
    assert await api.log(task.id) == ""


async def test_an_unknown_status_is_refused(pulled: tuple[Api, int]) -> None:
    """And the message says which there are."""
    api, number = pulled
    (await _end(api, number, "done")).problem(400, "$.status")
    (await _end(api, 987654)).problem(404, "no task 987654")
