"""Stored chunks without a database: where they are, and how much their attempt declared."""

from array import array
from collections.abc import Iterable
from datetime import date

from api.store.logs import AttemptPlace, Extents
from schema.reports import StreamTotal

START_US = 1_767_225_600_000_000


def place(
    *,
    pulled: bool = False,
    ended: bool = True,
    declared: StreamTotal | None = None,
    cut: int = 0,
) -> AttemptPlace:
    """Of an attempt that wrote to stdout."""
    return AttemptPlace(1, date(2026, 1, 1), pulled, ended, declared, None, START_US, cut)


def extents_of(rows: Iterable[tuple[int, int, int, int]]) -> Extents:
    """Position, size, lines and CRC of each chunk."""
    positions, sizes, lines, crcs = zip(*rows, strict=True) if (rows := list(rows)) else [()] * 4
    return Extents(array("q", positions), array("i", sizes), array("i", lines), array("q", crcs))
