"""The reading end of a pipe in the event loop: bounded reads, and none while nobody wants them."""

import asyncio
import os
from collections.abc import Callable

from agent import linux

READ_BYTES = 262_144
"""At most so much of one stream per turn of the loop: a chatty task must not starve the others."""

_CHATTY_BYTES = 65_536  # such a read emptied a full pipe of the default size


class Pipe:
    """The reading end of one stream: `take` gets what was read, `closed` hears of the end."""

    __slots__ = ("_closed", "_fd", "_loop", "_reading", "_take", "_wide")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        fd: int,
        take: Callable[[bytes], None],
        closed: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._fd = fd
        self._take = take
        self._closed = closed
        self._reading = False
        self._wide = False

    @property
    def open(self) -> bool:
        """Whether its end has not come yet."""
        return self._fd >= 0

    def resume(self) -> None:
        """Read whenever there is something."""
        if self.open and not self._reading:
            self._reading = True
            self._loop.add_reader(self._fd, self.read)

    def pause(self) -> None:
        """Leave it unread: when it is full, its writer waits."""
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._fd)

    def read(self) -> bool:
        """Read once; False where there was nothing, or the end."""
        try:
            data = os.read(self._fd, READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self.close()
            self._closed()
            return False
        if len(data) >= _CHATTY_BYTES and not self._wide:
            # Only now: quiet tasks, the most of them, spare the call and the pipe pages.
            self._wide = True
            linux.widen_pipe(self._fd)
        self._take(data)
        return True

    def drain(self, reads: int) -> None:
        """Read what is there without waiting for the loop to say so."""
        for _ in range(reads):
            if not self.open or not self._reading or not self.read():
                return

    def close(self) -> None:
        """Read no more."""
        self.pause()
        if self.open:
            os.close(self._fd)
            self._fd = -1
