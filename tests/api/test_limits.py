"""Limits of a token and of a worker: each names itself, and says when to come back."""

import asyncio
from typing import Any

import pytest

from schema.audit import AuditPage
from schema.claims import ClaimReply
from schema.tokens import TokenMade
from tests.api.conftest import StartApi
from tests.api.server import Api, Reply, eventually

_ADMIN = "a secret of some length"
_TASK = {"command": "true", "needs": ["nobody"]}


async def _submitter(api: Api, name: str) -> dict[str, str]:
    made = await api.post("/tokens", {"name": name, "role": "submit"})
    return {"Authorization": f"Bearer {made.as_(TokenMade).token}"}


async def test_submissions_of_a_token_are_counted_over_all_processes(start_api: StartApi) -> None:
    """A script that runs away is slowed wherever it turns to, also in a crowd; others are not."""
    settings: dict[str, Any] = {"token": _ADMIN, "submissions_per_minute": 5}
    async with start_api(**settings) as one, start_api(**settings) as other:
        alice, bob = await _submitter(one, "alice"), await _submitter(one, "bob")
        async with asyncio.TaskGroup() as group:
            replies = [
                group.create_task(api.call("POST", "/tasks", json=[_TASK] * 3, headers=alice))
                for api in (one, other)
                for _ in range(6)
            ]
        statuses = sorted(each.result().status for each in replies)
        assert statuses == [201] * 5 + [429] * 7
        refused = await other.call("POST", "/tasks", json=_TASK, headers=alice)
        problem = refused.problem(429, "alice", "5 times", "SUBMISSIONS_PER_MINUTE")
        assert problem.retry_after is not None
        assert 1 <= problem.retry_after <= 60
        assert refused.headers["retry-after"] == f"{problem.retry_after:.0f}"
        assert (await one.call("POST", "/tasks", json=_TASK, headers=bob)).status == 201
        entries = (await one.call("GET", "/audit")).as_(AuditPage).entries
        submitted = [each for each in entries if (each.who, each.tasks) == ("alice", 3)]
        assert len(submitted) == 5


async def test_a_submission_with_keys_is_limited_and_stored_whole(start_api: StartApi) -> None:
    """`dw` sends keys: they are stored in a transaction of their own."""
    async with start_api(submissions_per_minute=1) as api:
        keyed = _TASK | {"key": "k"}
        assert (await api.post("/tasks", [keyed, _TASK])).status == 201
        (await api.post("/tasks", _TASK | {"key": "another"})).problem(429)
        tasks = await api.call("GET", "/tasks")
        assert tasks.body.count(b'"id":') == 2


async def test_no_token_parks_more_than_its_share(start_api: StartApi) -> None:
    """One that leaked must not take all connections of a worker; what it has goes on."""
    async with start_api(token=_ADMIN, agent_token="a secret of agents", max_parked=3) as api:
        agents = {"Authorization": "Bearer a secret of agents"}

        async def parked(session: str) -> Reply:
            ask = {"session": session, "slots": 1, "wait": 60}
            return await api.call("POST", "/claims", json=ask, headers=agents)

        async def opened() -> str:
            body = {"agent": "a", "labels": ["share"]}
            reply = await api.call("POST", "/sessions", json=body, headers=agents)
            return str(reply.as_(dict[str, Any])["session"])

        sessions = [await opened() for _ in range(4)]
        async with asyncio.TaskGroup() as group:
            waiting = [group.create_task(parked(session)) for session in sessions[:3]]

            async def depth() -> bytes:
                return (await api.call("GET", "/metrics")).body

            await eventually(depth, lambda text: b'dw_waiting{what="claims"} 3' in text)
            refused = await parked(sessions[3])
            refused.problem(429, "AGENT_TOKEN", "3 requests", "MAX_PARKED")
            assert refused.headers["retry-after"] == "5"
            beat = {"session": sessions[3], "wait": 20}
            (await api.call("POST", "/beats", json=beat, headers=agents)).problem(429, "MAX_PARKED")
            beat = {"session": sessions[3]}
            assert (await api.call("POST", "/beats", json=beat, headers=agents)).status == 200
            mine = await api.open("share")  # another token
            own = group.create_task(api.claim(mine, wait=60))
            for _ in range(4):
                await api.submit(needs=["share"])
        assert [len(each.result().as_(ClaimReply).tasks) for each in waiting] == [1, 1, 1]
        assert len(own.result()) == 1
        ask = {"session": sessions[3], "slots": 1, "wait": 0.01}
        assert (await api.call("POST", "/claims", json=ask, headers=agents)).status == 200


@pytest.mark.parametrize("most", [1, 3])
async def test_a_worker_takes_only_so_many_requests(start_api: StartApi, most: int) -> None:
    """Each holds memory; health is answered all the same, or a balancer would drop the worker."""
    async with start_api(max_requests=most) as api:
        sessions = [await api.open(f"crowd-{number}") for number in range(most)]

        async def parked(session: str) -> None:
            ask = {"session": session, "slots": 1, "wait": 3}
            reply = await eventually(  # the looks below take a place now and then
                lambda: api.post("/claims", ask), lambda reply: reply.status != 503
            )
            assert reply.as_(ClaimReply).tasks == ()

        async def look() -> Reply:
            return await api.call("GET", "/tasks")

        async with asyncio.TaskGroup() as group:
            for session in sessions:
                group.create_task(parked(session))
            reply = await eventually(look, lambda reply: reply.status == 503)
            reply.problem(503, f"more than {most} requests", "MAX_REQUESTS")
            assert reply.headers["retry-after"] == "1"
            assert (await api.call("GET", "/health/ready")).status == 200
        assert (await look()).status == 200
