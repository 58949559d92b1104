"""The agent's own folder, used by one agent at a time.

lock     held for as long as the agent lives
work/    one folder for each running attempt that has no `cwd` of its own
"""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


class StateError(Exception):
    """The folder cannot be used: the text says what to do."""


@contextlib.contextmanager
def hold(state_dir: str) -> Iterator[Path]:
    """Lock the folder, empty `work/` of what a dead agent left, and give the path of `work/`."""
    root = Path(state_dir).absolute()
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = os.open(root / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StateError(f"STATE_DIR={state_dir!r} cannot be used: {error}") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StateError(
                f"another agent uses the folder {state_dir!r}. Two agents on one machine need two: "
                f"start this one with STATE_DIR={state_dir}2"
            ) from error
        work = root / "work"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(exist_ok=True)
        yield work
    finally:
        os.close(lock)
