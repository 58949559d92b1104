"""The demo must notice what is wrong, and leave nothing running."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from client.client import Client
from client.demo import output
from client.demo.cases import Case, cases
from client.demo.checks import check
from schema.tasks import Attempt, Submission
from tests.client.fake import Fake

TASK = Submission(command="true")


@pytest.mark.parametrize("name", output.OUTPUTS)
def test_the_demo_knows_what_its_tasks_write(name: str) -> None:
    """A process writes the very bytes that the demo compares with."""
    words = [sys.executable, "-m", "client.demo.output", name]
    done = subprocess.run(words, capture_output=True, check=True)
    assert (done.stdout, done.stderr) == output.whole(name)


def test_every_unit_test_file_is_a_task(tmp_path: Path) -> None:
    """Named after the file."""
    folder = tmp_path / "tests" / "unit"
    folder.mkdir(parents=True)
    for name in ("test_b.py", "test_a.py", "helper.py"):
        (folder / name).touch()
    names = [case.task.name for case in cases(tmp_path, tmp_path)]
    assert [name for name in names if name and name.endswith(".py")] == ["test_a.py", "test_b.py"]


async def test_a_log_that_came_back_whole_is_told_so(fake: Fake, dw: Client) -> None:
    """Both streams, and both together."""
    fake.add(status="succeeded", reason="exit", exit_code=0, attempt=1)
    fake.log(1, "stdout", b"abc")
    fake.log(1, "stderr", b"d")
    found = await check(dw, 1, Case(task=TASK, stdout=b"abc", stderr=b"d"))
    assert (found.wrong, found.stdout, found.stderr) == ((), 3, 1)
    assert found.how == "byte for byte"


async def test_every_difference_is_found(fake: Fake, dw: Client) -> None:
    """In how the task ended, in what its log says of itself, in a single byte."""
    fake.add(status="failed", reason="signal", signal=9, attempt=2)
    fake.log(1, "stdout", b"abX", attempt=2)
    fake.log(1, "stderr", b"", attempt=2)
    found = await check(dw, 1, Case(task=TASK, stdout=b"abc", stderr=b""))
    assert found.wrong == (
        "status failed, not succeeded",
        "reason signal, not exit",
        "attempts 2, not 1",
        "exit code None, not 0",
        "stdout: 3 bytes for 3, different from byte 2",
    )
    fake.log_state = "missing"
    assert "stdout is missing" in (await check(dw, 1, Case(task=TASK))).wrong


async def test_an_attempt_that_was_handed_back_is_no_run(fake: Fake, dw: Client) -> None:
    """An agent that claimed ahead and did not get to it hands it back: nothing went wrong."""
    back = Attempt(attempt=1, agent="a", reason="returned", started_at=datetime.now(UTC))
    fake.add(status="succeeded", reason="exit", exit_code=0, attempt=2, attempts=(back,))
    fake.log(1, "stdout", b"", attempt=2)
    fake.log(1, "stderr", b"", attempt=2)
    assert (await check(dw, 1, Case(task=TASK))).wrong == ()


_BREAKS = """
from pathlib import Path
from sys import argv
from client.demo.processes import Process, stopped_at_the_end

processes = []
try:
    with stopped_at_the_end(processes):
        words = ["http.server", "0", "--bind", "127.0.0.1"]
        processes.append(Process("a server", words, Path(argv[1]), {}))
        print(processes[0].pid)
        raise RuntimeError
except RuntimeError:
    pass
"""


def test_what_the_demo_started_ends_with_it(tmp_path: Path) -> None:
    """Whatever happens. In a process of its own, because it changes what signals do."""
    words = [sys.executable, "-c", _BREAKS, str(tmp_path / "output")]
    done = subprocess.run(words, capture_output=True, check=True)
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)
