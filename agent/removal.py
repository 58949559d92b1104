"""Removes what a task left in its folder, and nothing else, whatever it made of it.

A task may leave links to elsewhere, folders that nobody may enter, mounts, files of other users,
and a path of ten thousand folders; and a process of its own may go on changing all that meanwhile.
So each folder is opened from the one above without following a link, and what is on another file
system is left alone. `shutil.rmtree` gives up at a folder without rights, and at 1,000 levels its
RecursionError ended the agent.
"""

import contextlib
import os
import stat
from pathlib import Path

_DEPTH = 64  # levels that are open at a time
_PASSES = 3  # a process left behind may make files faster than they are removed
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ALL_RIGHTS = 0o700


def remove(path: Path) -> bool:
    """Remove a folder and all in it; False where something of it stays. Blocks."""
    try:
        path.rmdir()
    except OSError:
        top = _enter(str(path), None)
        if top is None:
            with contextlib.suppress(OSError):  # it may be a file, or a link, by now
                path.unlink()
            return not os.path.lexists(path)
        try:
            _Remover(top).run()
        finally:
            os.close(top)
        with contextlib.suppress(OSError):
            path.rmdir()
    return not os.path.lexists(path)


class _Remover:
    """Empties one folder, which is open."""

    def __init__(self, top: int) -> None:
        self._top = top
        self._device = os.fstat(top).st_dev
        self._lifted = 0
        self._name = f".{os.urandom(8).hex()}-"

    def run(self) -> None:
        """Remove all that can be removed."""
        left = _PASSES
        while left and _entries(self._top):
            lifted = self._lifted
            self._empty(self._top, 0)
            left -= self._lifted == lifted

    def _empty(self, folder: int, depth: int) -> None:
        if os.fstat(folder).st_mode & _ALL_RIGHTS != _ALL_RIGHTS:
            with contextlib.suppress(OSError):
                os.fchmod(folder, _ALL_RIGHTS)
        for name, is_folder in _entries(folder):
            with contextlib.suppress(OSError):  # it stays; so will what it is in
                if not is_folder:
                    os.unlink(name, dir_fd=folder)
                elif depth < _DEPTH:
                    self._folder(folder, name, depth)
                else:
                    self._lift(folder, name)

    def _folder(self, parent: int, name: str, depth: int) -> None:
        with contextlib.suppress(OSError):  # most are empty
            os.rmdir(name, dir_fd=parent)
            return
        folder = _enter(name, parent)
        if folder is None:
            return
        try:
            if os.fstat(folder).st_dev != self._device:
                return  # something is mounted there
            self._empty(folder, depth + 1)
        finally:
            os.close(folder)
        os.rmdir(name, dir_fd=parent)

    def _lift(self, parent: int, name: str) -> None:
        """Move what is too deep to the top, for the next pass."""
        _open_rights(name, parent)  # without them a folder cannot change its parent
        os.rename(name, f"{self._name}{self._lifted}", src_dir_fd=parent, dst_dir_fd=self._top)
        self._lifted += 1


def _entries(folder: int) -> list[tuple[str, bool]]:
    """Names, and whether each is a folder; none where it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    except OSError:
        return []


def _enter(name: str, parent: int | None) -> int | None:
    """Open a folder, if need be after giving us the right to; None where it cannot be."""
    for _ in range(2):
        try:
            return os.open(name, _FOLDER, dir_fd=parent)
        except PermissionError:
            _open_rights(name, parent)
        except OSError:  # it is gone, or has become something else
            return None
    return None


def _open_rights(name: str, parent: int | None) -> None:
    """Let us into a folder of ours, never through a link."""
    if not hasattr(os, "O_PATH"):
        with contextlib.suppress(OSError, NotImplementedError):
            os.chmod(name, _ALL_RIGHTS, dir_fd=parent, follow_symlinks=False)
        return
    with contextlib.suppress(OSError):
        found = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            if stat.S_ISDIR(os.fstat(found).st_mode):
                os.chmod(f"/proc/self/fd/{found}", _ALL_RIGHTS)  # noqa: PTH101
        finally:
            os.close(found)
