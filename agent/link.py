"""What the guardian and its worker tell each other.

A pair of sockets wakes the other side, and ends with it. What there is to know stands in memory
that both share: the guardian can read it however the worker stopped, a task costs the worker less
than a microsecond, and nothing piles up where one of the two stands still.
"""

import contextlib
import mmap
import socket
from collections.abc import Iterator
from typing import NamedTuple, Self

_HEARD_BYTES = 4096
_BYTES = 8
_UNTIL = 0
_FIRST = 1
_PID, _TASK, _ATTEMPT, _KIND = range(4)
_FIELDS = 4
_SHARED, _EXCLUSIVE, _ENDED = range(3)
_US = 1_000_000


class Entry(NamedTuple):
    """A task's process that the worker has not reaped yet, so that nobody else has its number."""

    place: int
    leader: int
    task: int
    attempt: int
    exclusive: bool


class Link:
    """Made before the fork, for so many tasks at a time; each side closes the other's end."""

    def __init__(self, slots: int) -> None:
        self.guardian, self.worker = socket.socketpair()
        self.guardian.setblocking(False)
        self.worker.setblocking(False)
        # A cell is written whole: one aligned word.
        self._cells = memoryview(mmap.mmap(-1, (_FIRST + slots * _FIELDS) * _BYTES)).cast("q")
        self._places = range(_FIRST, len(self._cells), _FIELDS)
        self._free = list(self._places)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.guardian.close()
        self.worker.close()

    # The worker's side

    def add(self, leader: int, task: int, attempt: int, *, exclusive: bool) -> int:
        """Tell of a process that has started; gives the place of its entry, for `remove`."""
        place = self._free.pop()
        self._cells[place + _TASK] = task
        self._cells[place + _ATTEMPT] = attempt
        self._cells[place + _KIND] = _EXCLUSIVE if exclusive else _SHARED
        self._cells[place + _PID] = leader  # last: it makes the entry count
        if exclusive:
            wake(self.worker)
        return place

    def remove(self, place: int) -> bool:
        """Tell that it is about to be reaped; True if the guardian has ended it."""
        self._cells[place + _PID] = 0
        self._free.append(place)
        return self._cells[place + _KIND] == _ENDED

    def exclusive_until(self, boot_s: float) -> None:
        """Tell when exclusive tasks must be dead, by the boot clock, whoever ends them."""
        self._cells[_UNTIL] = int(boot_s * _US)

    # The guardian's side

    @property
    def until_s(self) -> float:
        """When exclusive tasks must be dead, by the boot clock."""
        return self._cells[_UNTIL] / _US

    def entries(self) -> Iterator[Entry]:
        """What runs."""
        for place in self._places:
            if leader := self._cells[place + _PID]:
                task, attempt, kind = self._cells[place + _TASK : place + _FIELDS]
                yield Entry(place, leader, task, attempt, kind != _SHARED)

    def ending(self, entry: Entry) -> None:
        """Note, for when the worker goes on, that the guardian ends it."""
        self._cells[entry.place + _KIND] = _ENDED


def hear(end: socket.socket) -> bytes:
    """Take what the other side has sent; nothing when it is gone."""
    try:
        return end.recv(_HEARD_BYTES)
    except ConnectionResetError:  # it died before it had read what we sent
        return b""


def wake(end: socket.socket) -> None:
    """Let the other side look; nothing is lost if it is full of such bytes, or gone."""
    with contextlib.suppress(OSError):
        end.send(b".")
