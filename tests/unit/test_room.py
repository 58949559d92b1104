"""Room for large bodies: what is taken is given back, whatever happens."""

import asyncio

import pytest

from api import room as module
from api.problems import ProblemError
from api.room import Room


async def test_room_that_comes_as_the_wait_ends_is_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else each such moment would take a piece of the server's memory away for good."""
    monkeypatch.setattr(module, "_WAIT_FOR_ROOM_S", 0.2)
    room = Room(100_000, 100_000)
    await room.enter(90_000)
    late = asyncio.ensure_future(room.enter(80_000))
    await asyncio.sleep(0)
    # Held up until both are due, the loop lets it in and ends its wait in one turn.
    loop = asyncio.get_running_loop()
    loop.call_later(0.001, room.leave, 90_000)
    until = loop.time() + 0.25
    while loop.time() < until:
        pass
    with pytest.raises(ProblemError):
        await late
    await asyncio.wait_for(room.enter(100_000), 1)
