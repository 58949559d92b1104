"""The disk floor: when it stops an agent, and when it lets it go on."""

from pathlib import Path

import pytest

from agent.amounts import in_bytes, shown
from agent.disk import DiskFloor, Room, room


def test_it_stops_below_and_goes_on_a_tenth_above() -> None:
    """At the edge each file would stop it or start it."""
    floor = DiskFloor("10%")
    assert floor.look(Room(100, 1000)) is None
    assert floor.look(Room(99, 1000)) == (
        "the disk of STATE_DIR has 99 bytes left, MIN_DISK_FREE=10% is 100 bytes: no tasks are "
        "taken until 110 bytes are free"
    )
    assert floor.low
    assert floor.look(Room(109, 1000)) is None
    assert floor.low
    assert floor.look(Room(110, 1000)) is not None
    assert not floor.low


def test_none_is_never_reached(tmp_path: Path) -> None:
    """Off by default, on any disk."""
    floor = DiskFloor("0")
    assert floor.look(Room(0, 1000)) is None
    assert floor.look(room(tmp_path)) is None


def test_a_disk_is_looked_at(tmp_path: Path) -> None:
    """More than there is cannot be free."""
    found = room(tmp_path)
    assert 0 < found.free <= found.whole


@pytest.mark.parametrize(
    ("text", "amount"),
    [("0", 0), ("17", 17), ("2K", 2048), ("3G", 3 * 1024**3), ("5%", 50), ("2.5%", 25)],
)
def test_amounts(text: str, amount: int) -> None:
    """Of bytes, or of a whole."""
    assert in_bytes(text, 1000) == amount


def test_amounts_are_shown_as_people_read_them() -> None:
    """In the unit that fits."""
    assert [shown(n) for n in (17, 1536, 5 * 1024**3)] == ["17 bytes", "1.5 KiB", "5.0 GiB"]
