"""Chunks that may leave, oldest first, and how many of them go into one request. No I/O.

What was cut from both streams of an attempt at one time leaves together. While something of an
attempt is under way, nothing of its other stream leaves: it would be stored, and seen, before lines
that were written earlier. Of the same stream it may: the API shows only what joins.
"""

from collections import Counter, deque
from collections.abc import Iterable

from agent.parcels import Delivery, Parcel


class Ready:
    """The queue, and what of each attempt is under way."""

    def __init__(self) -> None:
        self._parcels: deque[Parcel] = deque()
        self.bytes = 0
        """On the wire."""

    def add(self, parcel: Parcel) -> None:
        """Queue a chunk behind all others."""
        parcel.delivery.waiting += 1
        self._parcels.append(parcel)
        self.bytes += parcel.wire_bytes

    def put_back(self, parcels: Iterable[Parcel]) -> None:
        """Queue again, in front, what was under way."""
        for parcel in reversed(list(parcels)):
            self.landed(parcel)
            parcel.delivery.waiting += 1
            self._parcels.appendleft(parcel)
            self.bytes += parcel.wire_bytes

    def landed(self, parcel: Parcel) -> None:
        """Note that a chunk is under way no more."""
        parcel.flying = False
        parcel.delivery.flying[parcel.stream] -= 1

    def take(self, max_bytes: int, max_items: int) -> list[Parcel]:
        """As much as fits, at least one where one may leave."""
        taken: list[Parcel] = []
        here: Counter[Delivery] = Counter()
        stay: list[Parcel] = []
        staying: set[Delivery] = set()
        size = 0
        while self._parcels and len(taken) + len(stay) < max_items:
            together = self._together(max_items)
            delivery = together[0].delivery
            if delivery in staying or not _may_leave(together, here[delivery]):
                staying.add(delivery)
                stay += self._pop(len(together))
                continue
            size += sum(parcel.wire_bytes for parcel in together)
            if taken and (size > max_bytes or len(taken) + len(together) > max_items):
                break
            taken += self._pop(len(together))
            here[delivery] += len(together)
            delivery.waiting -= len(together)
            for parcel in together:
                self.bytes -= parcel.wire_bytes
                parcel.flying = True
                delivery.flying[parcel.stream] += 1
        self._parcels.extendleft(reversed(stay))
        return taken

    def _together(self, most: int) -> list[Parcel]:
        """The first one, and what was cut with it."""
        together: list[Parcel] = []
        for parcel in self._parcels:
            together.append(parcel)
            if not parcel.leads or len(together) == most:
                break
        return together

    def _pop(self, count: int) -> list[Parcel]:
        return [self._parcels.popleft() for _ in range(count)]


def _may_leave(together: list[Parcel], here: int) -> bool:
    """Whether nothing of the other stream is under way; `here`: so many of it in the same batch."""
    flying = together[0].delivery.flying
    if flying.total() == here:
        return True
    streams = {stream for stream, count in flying.items() if count}
    return streams == {parcel.stream for parcel in together}
