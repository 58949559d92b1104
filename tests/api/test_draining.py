"""Draining agents from afar: every server knows of it at once."""

import asyncio

import pytest

from schema.sessions import Agent, DrainAsked
from tests.api.conftest import StartApi
from tests.api.server import Api, eventually

_SOON_S = 5.0  # a beat that was not woken lasts 20 s


async def _drain(api: Api, name: str) -> int:
    return (await api.call("POST", f"/agents/{name}/drain")).as_(DrainAsked).agents


async def _agents(api: Api, query: str = "") -> list[Agent]:
    return (await api.call("GET", f"/agents{query}")).as_(list[Agent])


def _renewed(agent: Agent) -> bool:
    return agent.seen_at > agent.opened_at


async def test_a_drain_at_one_server_wakes_beats_at_all(start_api: StartApi) -> None:
    """Two agents of one name, each at another server, hear of it while their beats are parked."""
    async with start_api(lease_s=60) as one, start_api(lease_s=60) as other:
        here, there = await one.open(agent="wall"), await other.open(agent="wall")
        bystander = await other.open(agent="wall-2")
        async with asyncio.TaskGroup() as group:
            beats = [
                group.create_task(api.beat(session, wait=20))
                for api, session in ((one, here), (other, there))
            ]
            unmoved = group.create_task(other.beat(bystander, wait=20))
            # Once they are renewed, nothing but a notice can wake them.
            await eventually(lambda: _agents(one), lambda all_: all(map(_renewed, all_)))
            assert not any(beat.done() for beat in beats)
            assert await _drain(one, "wall") == 2
            async with asyncio.timeout(_SOON_S):
                assert [(await beat).drain for beat in beats] == [True, True]
            assert not unmoved.done()
            unmoved.cancel()


async def test_a_server_that_knew_the_session_before_knows_of_the_drain(
    start_api: StartApi,
) -> None:
    """The agent's requests go to any of them: what one remembers of it must not count."""
    async with start_api(lease_s=60) as one, start_api(lease_s=60) as other:
        session = await one.open(agent="wall")
        for api in (one, other):
            assert not (await api.beat(session)).drain
        await _drain(other, "wall")
        for api in (one, other):
            assert (await api.beat(session)).drain


async def test_who_drains_is_seen_and_is_told_once(own_api: Api) -> None:
    """The list says so; a beat that says that it knows is parked as any other."""
    loop = asyncio.get_running_loop()
    session = await own_api.open(agent="wall")
    await own_api.open(agent="wall-2")
    assert [await _drain(own_api, "wall") for _ in range(2)] == [1, 1]
    drains = {agent.agent: agent.drain for agent in await _agents(own_api)}
    assert drains == {"wall": True, "wall-2": False}
    assert [agent.agent for agent in await _agents(own_api, "?name=wall")] == ["wall"]
    begun = loop.time()
    await own_api.beat(session, draining=True, wait=0.3)
    assert loop.time() - begun >= 0.25


async def test_a_drain_holds_for_one_life(own_api: Api) -> None:
    """The machine was looked after, and its agent is started again."""
    session = await own_api.open(agent="wall")
    await _drain(own_api, "wall")
    await own_api.beat(session, closing=True)
    reply = await own_api.call("POST", "/agents/wall/drain")
    reply.problem(404, "no live agent", "wall")
    again = await own_api.open(agent="wall")
    assert not (await own_api.beat(again)).drain


@pytest.mark.parametrize(
    ("name", "path"),
    [("pixel wall", "pixel%20wall"), ("lab/3", "lab%252F3"), ("50 %ä?", "50%20%25%C3%A4%3F")],
)
async def test_an_agent_may_have_any_name(own_api: Api, name: str, path: str) -> None:
    """A slash parts a path, even encoded once."""
    await own_api.open(agent=name)
    assert await _drain(own_api, path) == 1
