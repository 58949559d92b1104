"""The whole life of a task: handed over, claimed, run, reported, read."""

from typing import Any

import pytest

from schema.claims import PulledTask
from schema.tasks import StreamLog, Task
from tests.api.server import Api, chunk, exited, total


async def test_a_task_lives_from_its_submission_to_its_log(api: Api) -> None:
    """What the product is for, on one page."""
    number = await api.submit(
        command="echo hello", name="greeting", group="g", env={"A": "1"}, cwd="/tmp", timeout=60,
        no_output_timeout=30, needs=["os=linux"], priority=7,
    )  # fmt: skip
    waiting = await api.task(number)
    assert (waiting.status, waiting.attempt, waiting.logs) == ("pending", 0, {})

    session = await api.open("os=linux", "arch=x86")
    (given,) = await api.claim(session, slots=4)
    assert (given.id, given.attempt, given.command) == (number, 1, "echo hello")
    assert (given.env, given.cwd) == ({"A": "1"}, "/tmp")
    assert (given.timeout, given.no_output_timeout) == (60, 30)
    running = await api.task(number)
    assert (running.status, running.agent) == ("in_progress", "tester")
    assert running.started_at is not None

    out, err = b"hello\n", b"warning\n"
    chunks = [
        chunk(given.lease, out, at=2),
        chunk(given.lease, err, stream="stderr", at=1),
    ]
    result = exited(given.lease, run_s=0.25, stdout=total(out), stderr=total(err))
    assert await api.report(session, chunks, [result]) == ["ok", "ok", "ok"]

    task = await api.task(number)
    assert (task.status, task.reason, task.exit_code, task.run_s) == ("succeeded", "exit", 0, 0.25)
    assert task.finished_at is not None
    assert task.logs == {
        "stdout": StreamLog(state="complete", bytes=6, lines=1),
        "stderr": StreamLog(state="complete", bytes=8, lines=1),
    }
    assert await api.log(number) == "warning\nhello\n"
    assert await api.log(number, stream="stdout") == "hello\n"
    assert await api.claim(session) == []


@pytest.mark.parametrize(
    ("asked", "label", "given"),
    [
        ({"isolation": "bwrap"}, "isolation=bwrap", ("bwrap", None)),
        ({"isolation": "docker"}, "isolation=docker", ("docker", None)),
        ({"image": "python:3.12"}, "isolation=docker", ("docker", "python:3.12")),
        ({"isolation": "none"}, None, ("none", None)),
        ({"isolation": None, "image": None}, None, ("none", None)),
    ],
)
async def test_isolation_is_given_by_agents_that_can(
    api: Api, asked: dict[str, Any], label: str | None, given: tuple[str, str | None]
) -> None:
    """Others never see the task: also those that know nothing of isolation, and announce none."""
    own = f"isolated-{asked}".replace(" ", "")[:50].replace(",", "-")
    number = await api.submit(needs=[own], **asked)
    other = await api.open(own, "isolation=other")
    if label is not None:
        assert await api.claim(other) == []
        other = await api.open(own, label)
    (task,) = await api.claim(other)
    assert (task.id, task.isolation, task.image) == (number, *given)
    seen = await api.task(number)
    assert (seen.isolation or "none", seen.image) == given
    assert seen.needs == (own,), "what was not submitted is not shown"


async def test_isolated_tasks_are_not_pulled(own_api: Api) -> None:
    """A legacy agent would run them as they are."""
    await own_api.submit(needs=[], isolation="bwrap")
    assert (await own_api.call("POST", "/tasks/pull")).body == b"null"
    plain = await own_api.submit(needs=[])
    assert (await own_api.call("POST", "/tasks/pull")).as_(PulledTask) == PulledTask(plain, "true")


async def test_a_failed_attempt_runs_again_and_stays_in_the_history(api: Api) -> None:
    """`max_attempts` counts failures of the command; each attempt keeps its log."""
    session, task = await api.started(max_attempts=2)
    await api.report(session, [chunk(task.lease, b"first\n")], [exited(task.lease, 3)])
    waiting = await api.task(task.id)
    assert waiting.status == "scheduled"
    assert await api.log(task.id) == "first\n"
    (again,) = await api.claim(session, wait=20)
    assert (again.id, again.attempt) == (task.id, 2)
    await api.report(session, [chunk(again.lease, b"second\n")], [exited(again.lease, 4)])
    over = await api.task(task.id)
    assert (over.status, over.exit_code, over.attempt) == ("failed", 4, 2)
    assert isinstance(over.attempts, tuple)
    assert [(each.attempt, each.exit_code, each.agent) for each in over.attempts] == [
        (1, 3, "tester")
    ]
    assert await api.log(task.id) == "second\n"
    assert await api.log(task.id, attempt=1) == "first\n"


async def test_a_retry_starts_a_finished_task_anew(api: Api) -> None:
    """People press it; the same press sent twice runs it once."""
    session, task = await api.started()
    await api.report(session, [], [exited(task.lease)])
    for _ in range(2):
        reply = await api.post(f"/tasks/{task.id}/retry", {"after_attempt": 1})
        assert reply.as_(Task).status == "pending"
    (again,) = await api.claim(session, wait=10)
    assert again.attempt == 2
    reply = await api.post(f"/tasks/{task.id}/retry", {"after_attempt": 1})
    assert reply.as_(Task).status == "in_progress"
    await api.report(session, [], [exited(again.lease)])
    reply = await api.call("POST", f"/tasks/{task.id}/retry")
    assert reply.as_(Task).status == "pending"


async def test_what_was_not_started_is_handed_back(api: Api) -> None:
    """A draining agent: the task keeps its place and nothing counts against it."""
    session, task = await api.started()
    assert await api.report(session, [], [{"lease": task.lease, "reason": "returned"}]) == ["ok"]
    assert (await api.task(task.id)).status == "pending"
    (again,) = await api.claim(session, wait=10)
    assert (again.id, again.attempt) == (task.id, 2)
