"""Work folders of tasks: empty when a task gets one, removed with all that it left in there.

A folder that a task did not touch is kept for the next one. Making and removing one takes 95 µs
on an idle ext4, 360 µs beside a PostgreSQL that syncs, out of the 900 µs that an `echo` takes.
"""

import asyncio
import contextlib
import itertools
import logging
import os
from pathlib import Path

from agent.removal import remove

log = logging.getLogger("agent")

OURS_ALONE = 0o700
_KEPT_MOST = 20


class Folder:
    """One task's folder."""

    __slots__ = ("changed_ns", "path")

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self.changed_ns = path.stat().st_ctime_ns

    def untouched(self) -> bool:
        """Tell whether it is still empty, and its rights are what they were."""
        try:
            # The time alone is not enough: it moves in steps of some milliseconds.
            return os.stat(self.path).st_ctime_ns == self.changed_ns and not os.listdir(self.path)  # noqa: PTH116, PTH208 - the hot path
        except OSError:
            return False


class Folders:
    """Gives out folders under `root`, which should be empty in the beginning.

    `kept` has those of failed tasks that people may want to look into, the newest twenty.
    """

    def __init__(self, root: Path, kept: Path) -> None:
        self._root = root
        self._kept = kept
        self._numbers = itertools.count(1)
        self._untouched: list[Folder] = []

    def take(self) -> Folder:
        """Give an empty folder; OSError if none can be made."""
        if self._untouched:
            return self._untouched.pop()
        while True:
            # A process that a killed agent left behind may write on in a folder that the next
            # agent could not remove.
            with contextlib.suppress(FileExistsError):
                return Folder(self._root / str(next(self._numbers)))

    def put_back(self, folder: Folder) -> None:
        """Keep a folder in which nothing was started."""
        self._untouched.append(folder)

    async def give_back(self, folder: Folder) -> None:
        """Keep or remove a folder that a task has used."""
        if folder.untouched():
            self._untouched.append(folder)
            return
        if not await asyncio.to_thread(remove, folder.path):
            log.warning("part of a task's work folder cannot be removed: %s", folder.path)

    async def keep(self, folder: Folder, name: str) -> None:
        """Put a folder where people find it, unless it is empty; the oldest there is removed."""
        if folder.untouched():
            self._untouched.append(folder)
            return
        try:
            await asyncio.to_thread(self._keep, folder.path, name)
        except OSError as error:
            log.warning("a task's work folder cannot be kept: %s", error)
            return
        log.info("the work folder of a failed task is kept: %s", self._kept / name)

    def _keep(self, path: Path, name: str) -> None:
        self._kept.mkdir(mode=OURS_ALONE, exist_ok=True)
        remove(self._kept / name)
        path.rename(self._kept / name)
        there = sorted(self._kept.iterdir(), key=lambda one: one.lstat().st_ctime_ns)
        for old in there[:-_KEPT_MOST]:
            remove(old)
