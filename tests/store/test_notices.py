"""Wake-ups between processes."""

import asyncio
import time

import asyncpg
import pytest

from api.notices import Notices
from api.watched import Watched


@pytest.mark.parametrize("turns", range(6))
async def test_a_change_at_the_moment_of_the_stop_does_not_keep_it_running(
    shared_database_url: str, turns: int
) -> None:
    """The worker would never end: it waits for all of its loops, and this one went on."""
    listens = asyncio.Event()
    notices = Notices(lambda: asyncpg.connect(shared_database_url), Watched(time.monotonic))
    notices.on_reconnect = listens.set
    running = asyncio.ensure_future(notices.run())
    async with asyncio.timeout(20):
        await listens.wait()
    notices.sessions_changed([1])
    for _ in range(turns):  # of the event loop, between the change and the stop
        await asyncio.sleep(0)
    running.cancel()
    done, _ = await asyncio.wait([running], timeout=20)
    assert done
    assert running.cancelled()
