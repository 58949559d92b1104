"""Makes chunks of what was cut. Those of an attempt come out in the order in which they went in."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeAlias

from agent.gauge import Gauge
from agent.parcels import Delivery
from agent.streams import Cut
from schema.tasks import Stream

_INLINE_BYTES = 16_384  # compressing that takes about as long as handing it to a thread
_THREADS = 2

Cuts: TypeAlias = Sequence[tuple[Stream, Cut]]
"""What was cut from an attempt's streams at one time."""


class _Pressed(NamedTuple):
    cuts: Cuts
    members: asyncio.Future[list[bytes]]


class Press:
    """Compresses in threads; a small one by itself, unless a larger one of its attempt goes on.

    Plain bytes count as memory until then.
    """

    def __init__(self, memory: Gauge, made: Callable[[Delivery, Cuts, list[bytes]], None]) -> None:
        """`made` hears of cuts that are gzip members now, in their order."""
        self._memory = memory
        self._made = made
        self._pool = ThreadPoolExecutor(_THREADS, "gzip")
        self._lines: dict[Delivery, deque[_Pressed]] = {}

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)

    def put(self, delivery: Delivery, cuts: Cuts) -> None:
        """Compress what was cut together."""
        size = sum(cut.size for _, cut in cuts)
        if size < _INLINE_BYTES and delivery not in self._lines:
            self._made(delivery, cuts, _members(cuts))
            return
        self._memory.add(size)
        members = asyncio.get_running_loop().run_in_executor(self._pool, _members, cuts)
        self._lines.setdefault(delivery, deque()).append(_Pressed(cuts, members))
        members.add_done_callback(lambda _: self._advance(delivery))

    def _advance(self, delivery: Delivery) -> None:
        line = self._lines.get(delivery)
        while line and line[0].members.done():
            cuts, members = line.popleft()
            if not line:
                del self._lines[delivery]
            self._memory.add(-sum(cut.size for _, cut in cuts))
            if not members.cancelled():  # else the agent ends
                self._made(delivery, cuts, members.result())

    async def rest(self) -> None:
        """Wait until everything is compressed."""
        while self._lines:
            await asyncio.wait([each.members for line in self._lines.values() for each in line])


def _members(cuts: Cuts) -> list[bytes]:
    return [cut.gzip_member() for _, cut in cuts]
