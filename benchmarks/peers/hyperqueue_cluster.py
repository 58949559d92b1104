"""A process of hyperqueue: a server and a worker with 16 CPUs, told what to do by `processes`.

All tasks of a round are one job, as its documentation says. A task's standard output and error go
to a file each: to stream them into a few files is an option of the `hq` command, which the Python
package does not have.
"""

import shutil
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from hyperqueue import Job, LocalCluster
from hyperqueue.cluster import WorkerConfig

from benchmarks.peers.serve import serve, take_stdout

_CPUS = 16
_LOOK_S = 0.05  # as benchmarks/people.py


class _LookedError(Exception):
    """Ends the waiting of `wait_for_jobs`."""


class Cluster:
    """The server with its worker, and one job at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._commands = {
            "bash": [_path("bash"), "-c", "echo hello"],
            "echo": [_path("echo"), "hello"],
        }
        server_dir = folder / "server"
        server_dir.mkdir()
        self._cluster = LocalCluster(str(server_dir), WorkerConfig(cores=_CPUS))
        self._client = self._cluster.client()
        self._job = Job()
        self._outputs = folder
        self._tasks = 0

    def build(self, command: str, output: str, count: str) -> int:
        """Make a job of so many tasks, whose output is kept or not."""
        self._outputs = Path(tempfile.mkdtemp(dir=self._folder))
        self._job = Job(default_workdir=self._outputs)
        streams = {} if output == "kept" else {"stdout": None, "stderr": None}
        self._tasks = int(count)
        for _ in range(self._tasks):
            self._job.program(self._commands[command], **streams)
        return self._tasks

    def run(self) -> int:
        """Submit it and wait; how many tasks succeeded."""
        submitted = self._client.submit(self._job)
        while not self._look(submitted.id)["completed"]:
            time.sleep(_LOOK_S)
        counts = self._look(submitted.id)
        self._client.forget(submitted)
        return int(counts["finished"])

    def _look(self, job: int) -> dict[str, Any]:
        counts: dict[str, Any] = {}

        # By itself `wait_for_jobs` looks once a second, so a round would take whole seconds. It
        # ends with an exception from its callback.
        def looked(jobs: dict[int, dict[str, Any]]) -> None:
            counts.update(jobs[job])
            raise _LookedError

        with suppress(_LookedError):
            self._client.connection.wait_for_jobs([job], looked)
        return counts

    def outputs(self) -> int:
        """How many files have a task's output in them; they are removed."""
        found = sum(each.read_text() == "hello\n" for each in self._outputs.glob("*.stdout"))
        shutil.rmtree(self._outputs)
        return found

    def stop(self) -> None:
        """End the worker and the server."""
        self._cluster.stop()


def _path(program: str) -> str:
    found = shutil.which(program)
    assert found is not None, f"{program} is not there"
    return found


def main() -> None:
    """Serve; the folder for everything is the first argument."""
    answers = take_stdout()
    cluster = Cluster(Path(sys.argv[1]))
    try:
        serve(answers, {"build": cluster.build, "run": cluster.run, "outputs": cluster.outputs})
    finally:
        cluster.stop()
