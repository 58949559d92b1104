"""Room for large bodies: what is taken is given back, whatever happens."""

import asyncio

import pytest

from api import front
from api.front import Room
from api.problems import ProblemError


async def test_room_that_comes_as_the_wait_ends_is_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else each such moment would take a piece of the server's memory away for good."""
    monkeypatch.setattr(front, "_WAIT_FOR_ROOM_S", 0.02)
    room = Room(100_000, 100_000)
    await room.enter(90_000)
    late = asyncio.ensure_future(room.enter(80_000))
    await asyncio.sleep(0)
    # Both timers are due in the same turn of the loop: the room first, then the end of the wait.
    loop = asyncio.get_running_loop()
    loop.call_later(0.01, _hold_up, loop)
    loop.call_later(0.015, room.leave, 90_000)
    with pytest.raises(ProblemError):
        await late
    await asyncio.wait_for(room.enter(100_000), 1)


def _hold_up(loop: asyncio.AbstractEventLoop) -> None:
    until = loop.time() + 0.05
    while loop.time() < until:
        pass
