"""Who waits for a change is woken by it, and nobody else is kept waiting meanwhile."""

import asyncio

from api.live.bell import Bell


async def test_a_ring_between_the_look_and_the_wait_is_not_missed() -> None:
    """What came meanwhile would be told a minute later, or never."""
    bell = Bell()
    rung = bell.rung
    bell.ring()
    assert await bell.wait(rung, 60)
    assert not await bell.wait(bell.rung, 0.01)


async def test_a_thousand_are_woken_in_parts() -> None:
    """An agent whose request came meanwhile has its turn between them; some have gone away."""
    bell = Bell()
    order: list[str] = []

    async def viewer() -> None:
        assert await bell.wait(bell.rung)
        order.append("viewer")

    async with asyncio.TaskGroup() as group:
        viewers = [group.create_task(viewer()) for _ in range(1000)]
        await asyncio.sleep(0)
        for gone in viewers[::10]:
            gone.cancel()
        bell.ring()
        asyncio.get_running_loop().call_soon(order.append, "agent")
    assert order.count("viewer") == 900
    assert order.index("agent") < 100


async def test_who_gives_up_is_forgotten() -> None:
    """A task may be silent for days, and be looked at by many."""
    bell = Bell()
    for _ in range(3):
        assert not await bell.wait(bell.rung, 0.001)
    assert bell._waiting == {}
