"""How much room the disk of the tasks' folders must have before the agent takes more tasks."""

import os
from pathlib import Path
from typing import NamedTuple

from agent.amounts import in_bytes, shown

_AGAIN = 1.1  # of the floor: an agent at the edge would stop and go with each file


class Room(NamedTuple):
    """Of a disk, in bytes."""

    free: int
    """For us; root may have some more."""
    whole: int


def room(folder: Path) -> Room:
    """Look at the disk that a folder is on."""
    found = os.statvfs(folder)
    return Room(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)


class DiskFloor:
    """Low below the floor, and then until there is a tenth more than that. Pure."""

    def __init__(self, floor: str) -> None:
        """`floor` is a size, or a share of the disk."""
        self._floor = floor
        self.low = False

    def look(self, now: Room) -> str | None:
        """Note how much room there is; what there is to say of it, when `low` changes."""
        least = in_bytes(self._floor, now.whole)
        again = int(least * _AGAIN)
        if not self.low and now.free < least:
            self.low = True
            return (
                f"the disk of STATE_DIR has {shown(now.free)} left, MIN_DISK_FREE={self._floor} is "
                f"{shown(least)}: no tasks are taken until {shown(again)} are free"
            )
        if self.low and now.free >= again:
            self.low = False
            return f"the disk of STATE_DIR has {shown(now.free)} left: tasks are taken again"
        return None
