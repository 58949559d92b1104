"""Who watches at this process: a seat for each stream, and what ends it from outside."""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http import HTTPStatus

from api.access import Who
from api.problems import ProblemError

_FULL_AGAIN_S = 5.0
_STOPPING_AGAIN_S = 1.0

Over = asyncio.Future[None]
"""Done when a stream must end, whatever it is doing."""


class Audience:
    """All seats of one process. Each holds a connection, and up to a step of output."""

    def __init__(self, most: int, most_each: int) -> None:
        """`most_each`: of one token."""
        self._most = most
        self._most_each = most_each
        self._seats: dict[Who, set[Over]] = {}
        self._stopping = False
        self.count = 0

    @contextmanager
    def seat(self, who: Who) -> Iterator[Over]:
        """A seat for as long as the block lasts; 429 and 503 where there is none."""
        self._check(who)
        over: Over = asyncio.get_running_loop().create_future()
        seats = self._seats.setdefault(who, set())
        seats.add(over)
        self.count += 1
        try:
            yield over
        finally:
            self.count -= 1
            seats.discard(over)
            if not seats and self._seats.get(who) is seats:
                del self._seats[who]

    def revoke(self, name: str) -> None:
        """A token ended: so do its streams."""
        for who, seats in self._seats.items():
            if who.name == name:
                _end(seats)

    def stop(self) -> None:
        """End all streams: the server goes away, and their viewers come back elsewhere."""
        self._stopping = True
        for seats in self._seats.values():
            _end(seats)

    def _check(self, who: Who) -> None:
        if self._stopping:
            raise ProblemError(
                HTTPStatus.SERVICE_UNAVAILABLE, "this server is stopping; retry later",
                retry_after_s=_STOPPING_AGAIN_S,
            )  # fmt: skip
        if self.count >= self._most:
            raise ProblemError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"this worker already has {self._most} viewers of live logs (MAX_VIEWERS);"
                " retry later",
                retry_after_s=_FULL_AGAIN_S,
            )
        if len(self._seats.get(who, ())) >= self._most_each:
            raise ProblemError(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"{who.name} already has {self._most_each} viewers of live logs in this worker"
                " (MAX_VIEWERS_PER_TOKEN); retry later",
                retry_after_s=_FULL_AGAIN_S,
            )


def _end(seats: Iterable[Over]) -> None:
    for over in seats:
        if not over.done():
            over.set_result(None)
