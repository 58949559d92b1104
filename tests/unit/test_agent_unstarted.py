"""Whose fault it is that a task did not start, and how long its slot rests."""

import errno
import os

import pytest

from agent.process import SpawnError
from agent.unstarted import Rests, result_of
from schema.claims import ClaimedTask
from schema.reports import StreamTotal
from schema.tasks import Reason


def task(cwd: str | None = None) -> ClaimedTask:
    """Make a claimed task."""
    return ClaimedTask(id=1, attempt=1, lease="1.1", command="true", cwd=cwd)


def test_a_slot_rests_twice_as_long_each_time_until_a_start_works() -> None:
    """A machine that starts nothing must not run through the queue."""
    rests = Rests()
    assert [rests.next_s() for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    rests.reset()
    assert rests.next_s() == 1


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.ENOMEM])
@pytest.mark.parametrize("kind", [SpawnError, OSError])
def test_what_the_machine_lacks_for_now_counts_nowhere(
    number: int, kind: type[SpawnError | OSError]
) -> None:
    """Of a spawn, and of a folder that could not be made."""
    error = SpawnError("x", number) if kind is SpawnError else OSError(number, "x")
    assert result_of(task(), error).reason == "returned"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (SpawnError("fork: try again", errno.EAGAIN), "returned"),
        (SpawnError("too long", errno.E2BIG), "spawn_error"),
        (SpawnError("no such file", errno.ENOENT), "spawn_error"),  # the shell is gone
        (SpawnError("NUL"), "spawn_error"),
        (ValueError("NUL"), "spawn_error"),
        (FileNotFoundError(errno.ENOENT, "the work folder is gone"), "spawn_error"),
        (SpawnError("input/output error", errno.EIO, of_cwd=True), "spawn_error"),
        (SpawnError("no such folder", errno.ENOENT, of_cwd=True), "exit"),
        (SpawnError("a file", errno.ENOTDIR, of_cwd=True), "exit"),
        (SpawnError("closed", errno.EACCES, of_cwd=True), "exit"),
    ],
)
def test_who_is_at_fault(error: Exception, reason: Reason) -> None:
    """The task's own folder is the task's, all else the machine's."""
    assert result_of(task("/some/where"), error).reason == reason


def test_a_folder_that_cannot_be_entered_is_told_of() -> None:
    """As a shell would: 127, and no output, of which there is no more to come."""
    result = result_of(task("/" + "x" * 4000), SpawnError("x", errno.ENOTDIR, of_cwd=True))
    assert result.exit_code == 127
    assert result.message is not None
    assert result.message.startswith(
        f"its folder cannot be entered ({os.strerror(errno.ENOTDIR)}): /xxx"
    )
    assert len(result.message) == 1000
    assert result.stdout == result.stderr == StreamTotal(0, 0)


def test_a_folder_of_the_agent_that_cannot_be_entered_is_the_machines_fault() -> None:
    """The task did not choose it."""
    assert result_of(task(), SpawnError("x", errno.ENOENT, of_cwd=True)).reason == "spawn_error"
