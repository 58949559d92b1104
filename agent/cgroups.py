"""Control groups, version 2: one for each slot, made once.

One for each task would be simpler. But making and removing one (49 us without a controller) takes
locks that all of the machine shares, and short tasks would wait for each other.
"""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

_MOUNTS = Path("/proc/self/mounts")
_OWN = Path("/proc/self/cgroup")

# The process joins by itself, before it is the command: moved by us, it could have forked by then.
JOIN = ("/bin/sh", "-c", 'echo 0 >"$1" && shift && exec "$@"', "sh")


class Group(NamedTuple):
    """The control group of a slot."""

    path: Path

    @property
    def joining(self) -> tuple[str, ...]:
        """What stands before a command that is to run in it."""
        return (*JOIN, str(self.path / "cgroup.procs"))

    def memory_kills(self) -> int:
        """How many of its processes were ever killed for their memory."""
        return _number(self.path / "memory.events", "oom_kill")

    def empty(self) -> None:
        """Kill what is left in it."""
        if _number(self.path / "cgroup.events", "populated"):
            with contextlib.suppress(OSError):  # before Linux 5.14 there is no such file
                (self.path / "cgroup.kill").write_text("1")

    def remove(self) -> None:
        """Remove it, if nobody is in it."""
        with contextlib.suppress(OSError):
            self.path.rmdir()


def _number(file: Path, name: str) -> int:
    with contextlib.suppress(OSError):
        for line in file.read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    return 0


def own() -> Path:
    """The control group that this process is in; OSError."""
    mounts = [line.split() for line in _MOUNTS.read_text().splitlines()]
    lines = _OWN.read_text().splitlines()
    roots = [fields[1] for fields in mounts if fields[2] == "cgroup2"]
    paths = [line.removeprefix("0::") for line in lines if line.startswith("0::")]
    if not roots or not paths:
        raise OSError("there are no control groups of version 2")
    return Path(roots[0] + paths[0])


def make(
    base: Path, agent: str, slots: int, limits: Mapping[str, str], controllers: frozenset[str]
) -> list[Group]:
    """Make a group for each slot under `base`, with files as `limits` says; OSError.

    A group with controllers for those below it may have no process of its own, so the agent's two
    move down, too. Where others are in it, as in that of a terminal, it cannot be used.
    """
    have = set((base / "cgroup.controllers").read_text().split())
    if missing := controllers - have:
        raise OSError(f"{base} has no controllers {', '.join(sorted(missing))}")
    leaf = base / f"dw-{agent}-agent"
    leaf.mkdir(exist_ok=True)
    for pid in (os.getppid(), os.getpid()):
        (leaf / "cgroup.procs").write_text(str(pid))
    if controllers:
        wanted = " ".join(f"+{each}" for each in sorted(controllers))
        (base / "cgroup.subtree_control").write_text(wanted)
    groups = []
    for number in range(slots):
        group = Group(base / f"dw-{agent}-{number}")
        group.path.mkdir(exist_ok=True)
        group.empty()
        for name, value in limits.items():
            (group.path / name).write_text(value)
        groups.append(group)
    return groups
