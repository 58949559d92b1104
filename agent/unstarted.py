"""Attempts that could not be started: whose fault it is, and how long the slot rests. No I/O."""

import errno
import os

from agent.launch import RefusedError
from agent.process import SpawnError
from schema.claims import ClaimedTask
from schema.reports import MAX_MESSAGE_CHARS, Result, StreamTotal

SPAWN_ERRORS = (SpawnError, RefusedError, OSError, ValueError)
"""A folder that is not there, no memory, a full disk; text that is no UTF-8 or holds a NUL; what
this agent was told not to run."""

_SHORT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.ENOMEM, errno.EAGAIN})
"""The machine lacks something for now: another one should run the task, and nothing counts."""

_NO_ENTRY = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EACCES})
_NO_ENTRY_CODE = 127  # as a shell says of what it does not find
_REST_FIRST_S = 1.0
_REST_MOST_S = 30.0
REFUSED_S = 1.0
"""Of a slot after a task that it refused. Others may run that one, and have the time to take it."""


class Rests:
    """How long one slot rests after starts that failed: twice as long each time.

    A machine that starts nothing would run through the queue while all others are busy.
    """

    def __init__(self) -> None:
        self.failures = 0

    def next_s(self) -> float:
        """Seconds after one more failure."""
        self.failures += 1
        return min(_REST_MOST_S, _REST_FIRST_S * 2.0 ** min(self.failures - 1, 30))

    def reset(self) -> None:
        """A process was started."""
        self.failures = 0


def result_of(task: ClaimedTask, error: Exception) -> Result:
    """What to report: `exit` where the task is at fault, `returned` where the machine is short."""
    number = _number(error)
    if isinstance(error, SpawnError) and error.of_cwd and task.cwd and number in _NO_ENTRY:
        message = f"its folder cannot be entered ({os.strerror(number)}): {task.cwd}"
        nothing = StreamTotal(0, 0)
        return Result(
            lease=task.lease,
            reason="exit",
            exit_code=_NO_ENTRY_CODE,
            message=message[:MAX_MESSAGE_CHARS],
            stdout=nothing,
            stderr=nothing,
        )
    if number in _SHORT:
        return Result(lease=task.lease, reason="returned")
    refused = isinstance(error, RefusedError)
    message = str(error) if refused else f"the process could not be started: {error}"
    return Result(lease=task.lease, reason="spawn_error", message=message[:MAX_MESSAGE_CHARS])


def _number(error: Exception) -> int | None:
    if isinstance(error, SpawnError):
        return error.number
    return error.errno if isinstance(error, OSError) else None
