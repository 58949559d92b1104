"""A log holds so much and no more, whatever its agent sends; and it says so."""

import time
from collections.abc import Sequence
from typing import Any

import asyncpg
import pytest

from schema.reports import MIN_LOG_BYTES
from schema.tasks import Stream, StreamLog, Task
from tests.api.conftest import StartApi
from tests.api.server import Api, chunk, eventually, exited, total

_HALF = b"x" * (MIN_LOG_BYTES // 2 - 1) + b"\n"


@pytest.fixture
def start(start_api: StartApi) -> Any:
    """Start servers that store little."""
    return lambda **settings: start_api(**{"max_log_bytes": MIN_LOG_BYTES} | settings)


async def _log_of(api: Api, number: int, stream: Stream = "stdout") -> StreamLog:
    logs = (await api.task(number)).logs
    assert isinstance(logs, dict)
    return logs[stream]


def _halves(lease: str, numbers: Sequence[int], **more: Any) -> list[dict[str, Any]]:
    return [chunk(lease, _HALF, offset=number * len(_HALF), **more) for number in numbers]


async def test_agents_are_told_the_limit(start: StartApi) -> None:
    """They keep to it, with a tail; the disk is the server's."""
    async with start() as api:
        opened = await api.post("/sessions", {"agent": "a"})
        assert opened.as_(dict[str, Any])["max_log_bytes"] == MIN_LOG_BYTES


async def test_of_an_agent_that_sends_more_no_more_is_stored(
    start: StartApi, database: asyncpg.Connection
) -> None:
    """It is answered as if it was, for it can do nothing else; the log names what is not there."""
    async with start() as api:
        session, task = await api.started()
        chunks = [*_halves(task.lease, range(4)), chunk(task.lease, b"err", stream="stderr")]
        assert await api.report(session, chunks) == ["ok"] * 5
        assert (await _log_of(api, task.id)).state == "open"
        for _ in range(2):  # nor when it is sent again, which may store nothing at all
            assert await api.report(session, _halves(task.lease, [4], resent=True)) == ["ok"]
        result = exited(task.lease, stdout=total(_HALF * 5), stderr=total(b"err"))
        assert await api.report(session, [], [result]) == ["ok"]
        log = await _log_of(api, task.id)
        end = 5 * len(_HALF)
        assert (log.state, log.bytes, log.missing) == (
            "cut",
            MIN_LOG_BYTES,
            ((MIN_LOG_BYTES, end),),
        )
        assert (await _log_of(api, task.id, "stderr")).state == "complete"
        reply = await api.call("GET", f"/tasks/{task.id}/logs?stream=stdout")
        assert (reply.body, reply.headers["log-state"]) == (_HALF * 2, "cut")
        assert reply.headers["log-missing"] == f"stdout={MIN_LOG_BYTES}-{end - 1}"
        both = await api.call("GET", f"/tasks/{task.id}/logs")
        assert both.headers["log-state"] == "cut"
        assert await database.fetchval("SELECT sum(size) FROM log_chunks") == MIN_LOG_BYTES + 3


async def test_a_cut_log_that_lacks_more_is_missing_that(start: StartApi) -> None:
    """The limit is no excuse for bytes that got lost below it."""
    async with start() as api:
        session, task = await api.started()
        result = exited(task.lease, stdout=total(_HALF * 3))
        assert await api.report(session, _halves(task.lease, [1, 2]), [result]) == ["ok"] * 3
        assert (await _log_of(api, task.id)).state == "missing"


async def test_an_earlier_attempt_stays_cut_and_the_next_is_not(start: StartApi) -> None:
    """Each attempt has a log of its own; what comes late finds its own, too."""
    async with start() as api:
        session, task = await api.started(max_attempts=2)
        result = exited(task.lease, 1, stdout=total(_HALF * 3), stderr=total(b""))
        assert await api.report(session, _halves(task.lease, [0, 1, 2]), [result]) == ["ok"] * 4
        (again,) = await api.claim(session, wait=10)
        assert again.attempt == 2
        late = chunk(task.lease, b"x" * 1000, stream="stderr", offset=MIN_LOG_BYTES)
        assert await api.report(session, [late]) == ["ok"]
        result = exited(again.lease, stdout=total(b"x"), stderr=total(b""))
        assert await api.report(session, [chunk(again.lease, b"x")], [result]) == ["ok"] * 2
        assert (await _log_of(api, task.id)).state == "complete"
        first = await api.call("GET", f"/tasks/{task.id}/logs?attempt=1&stream=stdout")
        assert first.headers["log-state"] == "cut"


async def test_what_the_agent_left_out_itself_makes_the_log_cut(start: StartApi) -> None:
    """All that it declares is there, with a line that says what is not."""
    async with start() as api:
        session, task = await api.started()
        left_out = total(b"head [...] tail") | {"left_out": 12345}
        result = exited(task.lease, stdout=left_out, stderr=total(b""))
        chunks = [chunk(task.lease, b"head [...] tail")]
        assert await api.report(session, chunks, [result]) == ["ok", "ok"]
        log = await _log_of(api, task.id)
        assert (log.state, log.missing) == ("cut", ())
        assert (await _log_of(api, task.id, "stderr")).state == "complete"


async def _pulled(api: Api) -> int:
    number = await api.submit(needs=[])
    reply = (await api.call("POST", "/tasks/pull")).as_(dict[str, Any])
    assert reply["id"] == number
    return number


async def _batch(api: Api, number: int, index: int, content: str) -> None:
    body = {"kind": "stdout", "index": index, "content": content}
    assert (await api.post(f"/tasks/{number}/logs", body)).body == b"{}"


async def test_of_a_pulled_task_no_more_is_stored_either(
    start: StartApi, database: asyncpg.Connection
) -> None:
    """Its batches have no place in bytes: all processes together count what they stored."""
    async with start() as one, start() as other:
        number = await _pulled(one)
        for index in range(200):
            await _batch((one, other)[index % 2], number, index, "y" * 999)
        await one.call("PATCH", f"/tasks/{number}/status", json={"status": "succeeded"})
        log = await _log_of(one, number)
        assert log.state == "cut"
        stored = int(await database.fetchval("SELECT sum(size) FROM log_chunks"))
        assert MIN_LOG_BYTES - 1000 < stored <= MIN_LOG_BYTES * (1 + 2 / 16)
        assert (await one.log(number, stream="stdout")).startswith("y" * 999 + "\n")


async def test_a_pulled_task_whose_log_is_full_is_not_silent(start: StartApi) -> None:
    """Nothing of what its agent sends is stored any more: it still lives."""
    async with start(pulled_silence_s=1.5, reaper_s=0.1) as api:
        number = await _pulled(api)
        await _batch(api, number, 0, "y" * (MIN_LOG_BYTES - 1))
        until = time.monotonic() + 3

        async def writes() -> Task:
            await _batch(api, number, 1, "more")
            return await api.task(number)

        def long(task: Task) -> bool:
            assert task.status == "in_progress", task
            return time.monotonic() > until

        await eventually(writes, long)
        await api.until(number, "failed")  # it has stopped
