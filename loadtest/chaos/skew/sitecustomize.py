"""Lets the wall clock of an agent jump: Python imports this before the program, by PYTHONPATH.

CHAOS_CLOCK names a file with eight bytes, the nanoseconds by which the clock is wrong. Clocks that
nobody sets (monotonic, boot time) stay right, as on a machine whose time is being set.
"""

import mmap
import os
import time
from pathlib import Path


def _shift(path: Path) -> None:
    with path.open("rb") as file:
        wrong_by = mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)
    seconds, nanoseconds = time.time, time.time_ns

    def wrong_ns() -> int:
        return int.from_bytes(wrong_by[:8], "little", signed=True)

    time.time = lambda: seconds() + wrong_ns() / 1e9
    time.time_ns = lambda: nanoseconds() + wrong_ns()


if path := os.environ.get("CHAOS_CLOCK"):
    _shift(Path(path))
