"""Why a task is still pending: the reason that holds it, in words that tell what to do."""

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import msgspec
import pytest

from schema.explain import Explanation
from tests.api.conftest import StartApi
from tests.api.server import Api, exited


async def _explain(api: Api, number: int) -> Explanation:
    return (await api.call("GET", f"/tasks/{number}/explain")).as_(Explanation)


async def _only(api: Api, number: int) -> dict[str, Any]:
    """Demand one reason; it, without its words."""
    explained = await _explain(api, number)
    (reason,) = explained.reasons
    assert explained.text == reason.text
    data: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(reason))
    del data["text"]
    return data


async def test_nobody_is_there(own_api: Api) -> None:
    """The first thing that people forget."""
    number = await own_api.submit(needs=["gpu"])
    assert await _only(own_api, number) == {
        "kind": "no_agent", "missing": ["gpu"], "nearest": [], "agents": 0,
    }  # fmt: skip
    assert (await _explain(own_api, number)).text == "There is no live agent."


async def test_nobody_has_all_labels(own_api: Api) -> None:
    """And who comes nearest: there a label may just be missing."""
    await own_api.open("os=linux", "gpu", agent="farm-1")
    await own_api.open("os=linux", "ram=64", agent="farm-2")
    await own_api.open(agent="farm-3")
    number = await own_api.submit(needs=["os=linux", "gpu", "screen"])
    explained = await _explain(own_api, number)
    assert explained.text == (
        "No live agent has all of the labels gpu, os=linux and screen: farm-1 lacks only screen."
    )
    assert await _only(own_api, number) == {
        "kind": "no_agent",
        "missing": ["screen"],
        "nearest": [
            {"agent": "farm-1", "missing": ["screen"]},
            {"agent": "farm-2", "missing": ["gpu", "screen"]},
            {"agent": "farm-3", "missing": ["gpu", "os=linux", "screen"]},
        ],
        "agents": 3,
    }
    alone = await own_api.submit(needs=["mac"])
    assert (await _explain(own_api, alone)).text == (
        "No live agent has the label mac; 3 agents are live."
    )


async def test_all_slots_are_taken(own_api: Api) -> None:
    """Of those that could take it, and when the first one must be free."""
    session = await own_api.open("busy", slots=2, agent="one")
    other = await own_api.open("busy", slots=1, agent="two")
    await own_api.open(slots=9, agent="idle, and without the label")
    await own_api.submit(needs=["busy"])
    running = [await own_api.submit(needs=["busy"], timeout=seconds) for seconds in (300, 60)]
    assert len(await own_api.claim(session, 2)) == 2
    assert len(await own_api.claim(other, 1)) == 1
    number = await own_api.submit(needs=["busy"])
    reason = await _only(own_api, number)
    began = (await own_api.task(running[1])).started_at
    assert began is not None
    free_by = datetime.fromisoformat(reason.pop("free_by"))
    assert free_by == began + timedelta(seconds=60)
    assert reason == {"kind": "busy", "agents": 2, "slots": 3}
    text = (await _explain(own_api, number)).text
    assert text.startswith("All 3 slots of 2 agents that can take it are taken; the first will be")


async def test_others_are_before_it(own_api: Api) -> None:
    """By priority, then by their order; tasks with other needs are in another lane."""
    session = await own_api.open("queue", slots=1)
    await own_api.submit(needs=["queue"])
    await own_api.claim(session)
    before = [await own_api.submit(needs=["queue"]) for _ in range(3)]
    number = await own_api.submit(needs=["queue"])
    await own_api.submit(needs=["queue"])
    await own_api.submit(needs=["queue"], priority=1)
    await own_api.submit(needs=["queue"], priority=9)
    await own_api.submit(needs=["queue", "more"], priority=9)
    await own_api.call("POST", f"/tasks/{before[0]}/cancel")
    explained = await _explain(own_api, number)
    busy, queue = msgspec.json.decode(msgspec.json.encode(explained.reasons))
    assert busy["kind"] == "busy"
    assert queue == {
        "kind": "queue", "ahead": 3, "more": False, "lane": ["queue"], "priority": 5,
        "text": "3 tasks with the same needs are ahead of it.",
    }  # fmt: skip
    assert explained.text == f"{busy['text']} {queue['text']}"


async def test_a_long_queue_is_not_counted_to_its_end(
    own_api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look must not cost more because there are five million."""
    monkeypatch.setattr("api.store.explain.MOST_AHEAD", 5)
    monkeypatch.setattr("api.explaining.MOST_AHEAD", 5)
    await own_api.open("long", slots=1)
    number = [await own_api.submit(needs=["long"]) for _ in range(9)][-1]
    (reason,) = (await _explain(own_api, number)).reasons
    assert reason.text == "At least 5 tasks with the same needs are ahead of it."


async def test_all_that_could_take_it_drain(own_api: Api) -> None:
    """Somebody works on the machines."""
    await own_api.open("drains", agent="wall-1")
    await own_api.post("/agents/wall-1/drain", {})
    number = await own_api.submit(needs=["drains"])
    assert await _only(own_api, number) == {"kind": "draining", "agents": ["wall-1"], "count": 1}
    await own_api.open("drains", agent="wall-2", slots=3)
    assert await _only(own_api, number) == {"kind": "soon", "agents": 1, "free": 3}


async def test_it_is_not_due(api: Api) -> None:
    """Until when."""
    due = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    number = await api.submit(run_after=due.isoformat())
    reason = await _only(api, number)
    assert datetime.fromisoformat(reason.pop("run_after")) == due
    assert reason == {"kind": "not_due"}
    assert f"{due:%H:%M:%S} UTC" in (await _explain(api, number)).text


async def test_it_waits_to_run_again(start_api: StartApi, database: asyncpg.Connection) -> None:
    """After which attempt, and how that one went."""
    async with start_api() as api:
        session, task = await api.started(max_attempts=3)
        await api.report(session, [], [exited(task.lease, 7)])
        await database.execute("UPDATE tasks SET run_after = now() + interval '1 hour'")
        await api.until(task.id, "scheduled")
        reason = await _only(api, task.id)
        assert reason.pop("run_after")
        assert reason == {"kind": "retry", "attempt": 1, "reason": "exit"}
        assert "Attempt 1 ended with exit code 7" in (await _explain(api, task.id)).text


async def test_it_runs_or_has_ended(api: Api) -> None:
    """Then nothing holds it."""
    session, task = await api.started()
    reason = await _only(api, task.id)
    assert reason.pop("started_at")
    assert reason == {
        "kind": "running", "agent": "tester", "attempt": 1, "cancel_requested": False,
    }  # fmt: skip
    await api.call("POST", f"/tasks/{task.id}/cancel")
    assert (
        await _explain(api, task.id)
    ).text == "It is being cancelled on agent tester, attempt 1."
    await api.report(session, [], [exited(task.lease, 1)])
    reason = await _only(api, task.id)
    assert reason.pop("finished_at")
    assert reason == {"kind": "ended", "status": "failed", "reason": "exit"}


async def test_an_unknown_task_is_a_404(api: Api) -> None:
    """As everywhere."""
    (await api.call("GET", "/tasks/999999/explain")).problem(404, "999999")
