"""Room for the bodies of requests."""

import asyncio
from collections import deque
from collections.abc import Mapping
from http import HTTPStatus

from litestar.types import Scope

from api.problems import ProblemError

SMALL_BYTES = 65_536
"""Smaller bodies always pass: a beat or a result must not wait for somebody's logs."""

_WAIT_FOR_ROOM_S = 20.0
RawHeaders = Mapping[bytes, bytes]


class Place:
    """Room that one body takes, until `leave`."""

    __slots__ = ("_room", "_size")

    def __init__(self, room: "Room", size: int) -> None:
        self._room = room
        self._size = size

    def leave(self) -> None:
        """Give it back, once: the request is answered, or waits and has forgotten its body."""
        size, self._size = self._size, 0
        if size:
            self._room.leave(size)


def keep_in(scope: Scope, place: Place) -> None:
    """Let whoever handles the request find its body's place."""
    scope["place"] = place  # type: ignore[typeddict-unknown-key]  # ours


def leave(scope: Scope) -> None:
    """Its body has been read and is forgotten, though the request is not answered yet."""
    place = scope.get("place")
    if isinstance(place, Place):
        place.leave()


class Room:
    """How much the bodies of requests may hold of the process's memory.

    Sixty bodies of 15 MB in one moment took 1.3 GB. Counted from a request's first byte to its
    answer, at the size that it announces. Where there is no room, large ones wait, unread, in
    their order: legacy agents lose what they are not allowed to send.
    """

    def __init__(self, most_bytes: int, most_of_one: int) -> None:
        self._most_bytes = most_bytes
        self._most_of_one = most_of_one
        self._held = 0
        self._line: deque[tuple[int, asyncio.Future[None]]] = deque()

    def size(self, headers: RawHeaders) -> int:
        """Bytes that the body may have.

        One that is compressed, or does not say its length, may be as large as any.
        """
        length = headers.get(b"content-length")
        if b"transfer-encoding" in headers or (length and b"content-encoding" in headers):
            return self._most_of_one
        return min(int(length), self._most_of_one) if length and length.isdigit() else 0

    async def enter(self, size: int) -> Place:
        """Wait for room. A 503 problem after some time."""
        if not self._line and self._fits(size):
            self._held += size
            return Place(self, size)
        entered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append((size, entered))
        try:
            async with asyncio.timeout(_WAIT_FOR_ROOM_S):
                await entered
        except TimeoutError:
            if entered.done() and not entered.cancelled():
                self.leave(size)  # it was let in at that very moment
            raise ProblemError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "too many large bodies at once (MAX_BODIES_BYTES); retry later",
                retry_after_s=1,
            ) from None
        return Place(self, size)

    def leave(self, size: int) -> None:
        """Let in whoever waits and finds room now."""
        self._held -= size
        while self._line and (self._line[0][1].done() or self._fits(self._line[0][0])):
            wanted, entered = self._line.popleft()
            if not entered.done():
                self._held += wanted
                entered.set_result(None)

    def _fits(self, size: int) -> bool:
        return not self._held or self._held + size <= self._most_bytes
