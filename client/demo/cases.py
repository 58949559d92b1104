"""What the demo runs, and how each task must end."""

import shlex
import sys
from pathlib import Path

from msgspec import Struct

from client.demo import output
from schema.tasks import Reason, Status, Submission, Task

GROUP = "demo"


class Case(Struct, frozen=True, kw_only=True):
    """One task and what must become of it."""

    task: Submission
    status: Status = "succeeded"
    reason: Reason = "exit"
    exit_code: int | None = 0
    attempts: int = 1
    stdout: bytes | None = None
    stderr: bytes | None = None
    """Every byte, where it is known beforehand."""
    cancel: bool = False
    """To be cancelled when it has written a line."""

    def wrong(self, task: Task) -> list[str]:
        """How the task did not end as it should; empty if it did."""
        # One that was handed back unstarted is no run, and may be on any busy agent.
        earlier = task.attempts or ()
        returned = sum(each.reason == "returned" for each in earlier)
        pairs: tuple[tuple[str, object, object], ...] = (
            ("status", task.status, self.status),
            ("reason", task.reason, self.reason),
            ("attempts", task.attempt - returned, self.attempts),
        )
        if self.reason == "exit":
            pairs += (("exit code", task.exit_code, self.exit_code),)
        return [f"{name} {got}, not {want}" for name, got, want in pairs if got != want]


def cases(root: Path, scratch: Path) -> list[Case]:
    """Each of our own unit-test files, and what shows the rest.

    `root` is the folder of the repository; `scratch` is an empty one.
    """
    python = shlex.quote(sys.executable)
    files = sorted((root / "tests/unit").glob("test_*.py"))

    def written(name: str) -> Case:
        out, err = output.whole(name)
        command = f"{python} -m client.demo.output {name}"
        return Case(task=_task(name, command, cwd=str(root)), stdout=out, stderr=err)

    return [
        # Long ones first: they overlap with the rest.
        written("chatty"),
        Case(
            task=_task("cancelled", "echo ready; exec sleep 300"),
            status="cancelled",
            reason="cancelled",
            stdout=b"ready\n",
            stderr=b"",
            cancel=True,
        ),
        Case(
            task=_task("too slow", "echo waiting; sleep 300; echo never", timeout=2.0),
            status="failed",
            reason="timeout",
            stdout=b"waiting\n",
            stderr=b"",
        ),
        *(_test_file(python, root, path) for path in files),
        written("binary"),
        written("both"),
        Case(
            task=_task("fails", "echo 'about to fail' >&2; exit 3"),
            status="failed",
            exit_code=3,
            stdout=b"",
            stderr=b"about to fail\n",
        ),
        Case(
            task=_task(
                "fails once",
                'test -e tried || { touch tried; exit 1; }; echo "$GREETING"',
                cwd=str(scratch),
                max_attempts=2,
                env={"GREETING": "second time lucky"},
            ),
            attempts=2,
            stdout=b"second time lucky\n",
            stderr=b"",
        ),
    ]


def _test_file(python: str, root: Path, path: Path) -> Case:
    file = shlex.quote(str(path.relative_to(root)))
    command = f"{python} -m pytest {file} -q -p no:cacheprovider"
    return Case(task=_task(path.name, command, cwd=str(root)))


def _task(
    name: str,
    command: str,
    *,
    cwd: str | None = None,
    timeout: float = 120.0,
    max_attempts: int = 1,
    env: dict[str, str] | None = None,
) -> Submission:
    return Submission(
        name=name,
        command=command,
        cwd=cwd,
        timeout=timeout,
        max_attempts=max_attempts,
        env=env or {},
        group=GROUP,
        needs=("demo",),
    )
