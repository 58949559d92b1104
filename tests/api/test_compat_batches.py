"""Batches of the original system's agents: as large as they like, and later than the status."""

import gzip

import msgspec

from schema.claims import PulledTask
from schema.tasks import Submitted
from tests.api.server import Api


async def _pulled(api: Api, **fields: object) -> int:
    """Submit a task and take it as such an agent does."""
    number = (await api.post("/tasks", {"command": "true"} | fields)).as_(Submitted).id
    reply = await api.call("POST", "/tasks/pull")
    assert reply.as_(PulledTask).id == number
    return number


async def test_a_batch_of_any_size_can_be_read(own_api: Api) -> None:
    """Such an agent cuts where it likes: a batch over an agent's chunk of 1 MiB made its whole log
    unreadable.
    """
    number = await _pulled(own_api)
    batches = ["x" * 2_000_000, "the last line"]
    for index, content in enumerate(batches):
        body = msgspec.json.encode({"kind": "stdout", "index": index, "content": content})
        reply = await own_api.call(
            "POST", f"/tasks/{number}/logs", data=gzip.compress(body),
            headers={"Content-Type": "application/json", "Content-Encoding": "gzip"},
        )  # fmt: skip
        assert reply.as_(dict) == {}
    log = "".join(f"{content}\n" for content in batches)
    assert await own_api.log(number, stream="stdout") == log
    assert await own_api.log(number) == log
    assert await own_api.log(number, tail=1) == "the last line\n"


async def test_a_failed_attempt_takes_its_last_batch_while_the_task_waits(own_api: Api) -> None:
    """The status may come before the last batch, and twice: a task that is to run again took
    neither.
    """
    number = await _pulled(own_api, max_attempts=2)
    for _ in range(2):
        reply = await own_api.call("PATCH", f"/tasks/{number}/status", json={"status": "failed"})
        assert reply.as_(dict) == {}
    body = {"kind": "stderr", "index": 0, "content": "why"}
    assert (await own_api.post(f"/tasks/{number}/logs", body)).as_(dict) == {}
    assert await own_api.log(number, attempt=1) == "why\n"
    other = await own_api.call("PATCH", f"/tasks/{number}/status", json={"status": "succeeded"})
    other.problem(409, "already failed")
