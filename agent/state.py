"""The agent's own folder, used by one agent at a time.

lock      held for as long as the guardian or its worker lives
id        what the environment of all its tasks' processes names, so that the next agent finds them
work/     one folder for each running attempt that has no `cwd` of its own, or is isolated
kept/     those of failed attempts, where KEEP_WORK says so
session, spool/   see `agent.inheritance`

What tasks write is nobody else's: into these folders only the agent's user can go.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from agent import leftovers
from agent.folders import OURS_ALONE
from agent.removal import remove


class StateError(Exception):
    """The folder cannot be used: the text says what to do."""


class State(NamedTuple):
    """The folder while it is held."""

    root: Path
    work: Path
    """Empty in the beginning."""
    kept: Path
    """May be missing."""
    id: str
    """In hexadecimal. The folder has the same one in its next life."""


@contextlib.contextmanager
def hold(state_dir: str) -> Iterator[State]:
    """Lock the folder, and end what a dead agent left: processes, then what is in `work/`."""
    root = Path(state_dir).absolute()
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = os.open(root / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise _unusable(state_dir, error) from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StateError(
                f"another agent uses the folder {state_dir!r}. Two agents on one machine need two: "
                f"start this one with STATE_DIR={state_dir}2"
            ) from error
        work, kept = root / "work", root / "kept"
        try:
            own_id = _id(root)
            leftovers.end(own_id)
            remove(work)
            work.mkdir(exist_ok=True)
            for folder in (work, kept):  # one of an agent from before may be open to all
                with contextlib.suppress(FileNotFoundError):
                    folder.chmod(OURS_ALONE)
        except OSError as error:
            raise _unusable(state_dir, error) from error
        yield State(root, work, kept, own_id)
    finally:
        os.close(lock)


def _unusable(state_dir: str, error: OSError) -> StateError:
    return StateError(f"STATE_DIR={state_dir!r} cannot be used: {error}")


def _id(root: Path) -> str:
    """Give the folder's id; a copy of the folder is another one, and gets its own.

    Else the agent of the copy would end what the agent of the original runs.
    """
    path = root / "id"
    with contextlib.suppress(FileNotFoundError):
        known, _, inode = path.read_text(errors="replace").strip().partition(" ")
        if known.isalnum() and inode == str(path.stat().st_ino):
            return known
    new = root / "id.new"
    own_id = os.urandom(16).hex()
    with new.open("w") as file:
        file.write(f"{own_id} {os.fstat(file.fileno()).st_ino}\n")
    new.replace(path)
    return own_id
