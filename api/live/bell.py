"""Wakes all who wait for something to change, some at a time."""

import asyncio
from collections import deque

_TOGETHER = 32
"""A viewer who is woken works for 75 us: a thousand at once would keep agents waiting."""


class Bell:
    """Note `rung` before looking, and wait with it afterwards: so no ring is missed."""

    def __init__(self) -> None:
        self.rung = 0
        """How often."""
        self._waiting: dict[asyncio.Future[None], None] = {}

    async def wait(self, rung: int, timeout_s: float | None = None) -> bool:
        """Return when it has rung more often; False if it did not in time."""
        if self.rung != rung:
            return True
        ring: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[ring] = None
        try:
            done, _ = await asyncio.wait([ring], timeout=timeout_s)
        finally:
            self._waiting.pop(ring, None)
        return bool(done)

    def ring(self) -> None:
        """Something changed."""
        self.rung += 1
        waiting, self._waiting = self._waiting, {}
        self._wake(deque(waiting))

    def _wake(self, waiting: deque[asyncio.Future[None]]) -> None:
        for _ in range(min(_TOGETHER, len(waiting))):
            waiting.popleft().set_result(None)
        if waiting:
            asyncio.get_running_loop().call_soon(self._wake, waiting)
