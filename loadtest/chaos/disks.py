"""A disk of an agent's own, so that it can be full: a tmpfs, where we may mount one."""

import contextlib
import errno
import subprocess
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

_PIECE = bytes(65_536)


class Disk(Struct):
    """A folder."""

    path: Path
    mounted: bool
    """It is a file system of its own; else it cannot be filled without harm to others."""

    @property
    def _ballast(self) -> Path:
        return self.path / "ballast"

    def fill(self) -> None:
        """Leave no byte free."""
        assert self.mounted
        with self._ballast.open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(_PIECE)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise

    def free(self) -> None:
        """Give it all back."""
        self._ballast.unlink(missing_ok=True)


@contextlib.contextmanager
def made(path: Path, size: int) -> Iterator[Disk]:
    """Mount a file system of so many bytes; a plain folder where that is not allowed."""
    path.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    mounted = subprocess.run(words, stderr=subprocess.DEVNULL, check=False).returncode == 0
    try:
        yield Disk(path, mounted)
    finally:
        if mounted:  # lazily: what was killed may not be gone
            subprocess.run(["umount", "--lazy", str(path)], check=False)
