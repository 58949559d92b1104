"""The plot of what ended in the last hour: a bar for each minute. Pure."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from msgspec import Struct

from schema.tasks import Status

MINUTES = 60
HEIGHT = 64.0
_SHOWN: tuple[Status, ...] = ("failed", "cancelled", "succeeded")
"""From the bottom up: failures stand on the ground, where they can be compared."""

Counts = Mapping[datetime, Mapping[Status, int]]


class Piece(Struct, frozen=True):
    """A rectangle."""

    status: Status
    y: float
    height: float


class Bar(Struct, frozen=True):
    """One minute."""

    x: int
    text: str
    pieces: tuple[Piece, ...]


class Plot(Struct, frozen=True):
    """An hour."""

    bars: tuple[Bar, ...]
    most: int
    """Of one minute."""
    totals: dict[Status, int]

    @property
    def total(self) -> int:
        """All that ended."""
        return sum(self.totals.values())


def plot(counts: Counts, now: datetime) -> Plot:
    """The minutes up to `now`, which is not over."""
    last = now.replace(second=0, microsecond=0)
    minutes = [last - timedelta(minutes=back) for back in range(MINUTES - 1, -1, -1)]
    rows = [counts.get(minute, {}) for minute in minutes]
    most = max(sum(row.values()) for row in rows)
    bars = [
        Bar(place, _text(minute, row), _pieces(row, most))
        for place, (minute, row) in enumerate(zip(minutes, rows, strict=True))
    ]
    totals = {status: sum(row.get(status, 0) for row in rows) for status in _SHOWN}
    return Plot(tuple(bars), most, totals)


def _text(minute: datetime, row: Mapping[Status, int]) -> str:
    parts = [f"{row[status]:,} {status}" for status in reversed(_SHOWN) if row.get(status)]
    return f"{minute:%H:%M} UTC: {', '.join(parts) or 'nothing ended'}"


def _pieces(row: Mapping[Status, int], most: int) -> tuple[Piece, ...]:
    pieces = []
    top = HEIGHT
    for status in _SHOWN:
        if number := row.get(status, 0):
            # One failure among a thousand must be seen.
            height = max(1.5, number / most * HEIGHT)
            top = max(0.0, top - height)
            pieces.append(Piece(status, round(top, 2), round(height, 2)))
    return tuple(pieces)
