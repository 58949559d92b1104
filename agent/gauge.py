"""How much memory is in use, and when that is too much. No I/O."""

from collections.abc import Callable

_LOW_WATER = 0.75


class Gauge:
    """Full at the limit, and then until a quarter of it is free.

    Readers that were paused and resumed for each chunk would cost more than it brings.
    """

    def __init__(self, limit_bytes: int, full_changed: Callable[[bool], None]) -> None:
        """Call `full_changed` with True when it is full, with False when there is room again."""
        self.limit_bytes = limit_bytes
        self.bytes = 0
        self.full = False
        self._full_changed = full_changed

    def add(self, change: int) -> None:
        """Note that so many bytes came, or went."""
        self.bytes += change
        if not self.full and self.bytes >= self.limit_bytes:
            self.full = True
            self._full_changed(True)
        elif self.full and self.bytes <= self.limit_bytes * _LOW_WATER:
            self.full = False
            self._full_changed(False)
