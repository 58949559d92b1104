"""What runs `echo hello` many times, 16 at a time: ours, hyperqueue, and xargs as the limit."""

import asyncio
import importlib.metadata
import itertools
from collections.abc import Mapping, Sequence
from typing import Literal

from benchmarks import tables, xargs
from benchmarks.agents import BenchAgent
from benchmarks.peers import statements
from benchmarks.peers.processes import PeerProcess
from benchmarks.people import People
from benchmarks.server import BenchServer
from schema.tasks import Submission

SLOTS = 16
_COMMAND = "echo hello"
_NO_STREAM = "to stream it to a few files, as it recommends, is not in its Python API"


class Ours:
    """API, PostgreSQL and an agent; a `comparison.System`."""

    name = f"distributed-worker, one agent with {SLOTS} slots, bash -c"
    facts: Mapping[str, str] = {
        "Set up": "default settings; tasks as one array",
        "Output": "by the agent to PostgreSQL, committed before the result counts",
        "Tasks": "committed before the submission is answered; each has a folder of its own",
    }

    def __init__(
        self,
        runner: asyncio.Runner,
        server: BenchServer,
        agent: BenchAgent,
        tasks: int,
    ) -> None:
        self.tasks = tasks
        self.pids: Sequence[int] = [agent.pid]
        self._runner = runner
        self._server = server
        self._people: People | None = None
        self._numbers = itertools.count(1)
        self._ids: list[int] = []

    def prepare(self) -> None:
        """Connect: a connection would be closed in the rounds of the others."""
        self._runner.run(statements.value(self._server.dsn(), "CHECKPOINT"))
        self._people = People(self._runner, self._server)

    def run(self) -> None:
        """Submit, and look until all have succeeded."""
        assert self._people is not None
        group = f"peers-{next(self._numbers)}"
        tasks = [Submission(command=_COMMAND, group=group)] * self.tasks
        self._ids = self._people.submit(tasks)
        assert self._people.wait(group).counts == {"succeeded": self.tasks}

    def finish(self) -> None:
        """Hang up; all logs must be there."""
        assert self._people is not None
        self._people.close()
        logs = self._runner.run(tables.count_chunks(self._server, self._ids))
        assert logs == self.tasks, f"{logs} of {self.tasks} logs are stored"


class HyperQueue:
    """A LocalCluster with one worker; a `comparison.System`."""

    def __init__(
        self,
        cluster: PeerProcess,
        command: Literal["bash", "echo"],
        output: Literal["kept", "discarded"],
        tasks: int,
    ) -> None:
        version = importlib.metadata.version("hyperqueue")
        what = {"bash": "bash -c", "echo": "echo itself"}[command]
        lost = ", output discarded" if output == "discarded" else ""
        self.name = f"hyperqueue {version}, a worker with {SLOTS} CPUs, {what}{lost}"
        self.tasks = tasks
        self.pids: Sequence[int] = [cluster.pid]
        self.facts: Mapping[str, str] = {
            "Set up": "LocalCluster: server and worker in one process, in memory; one job",
            "Output": (
                f"stdout and stderr to a file each for each task, the default; {_NO_STREAM}"
                if output == "kept"
                else f"nowhere, which is the most that streaming could gain; {_NO_STREAM}"
            ),
        }
        self._cluster = cluster
        self._command = command
        self._output = output

    def prepare(self) -> None:
        """Build the job."""
        self._cluster.ask("build", self._command, self._output, self.tasks)

    def run(self) -> None:
        """Submit it, and look until all have succeeded."""
        assert self._cluster.ask("run") == self.tasks

    def finish(self) -> None:
        """All outputs must be there, if they are kept."""
        outputs = self._cluster.ask("outputs")
        expected = self.tasks if self._output == "kept" else 0
        assert outputs == expected, f"{outputs} of {expected} outputs are there"


class Xargs:
    """What it costs to start these processes; a `comparison.System`."""

    name = f"xargs -P{SLOTS}, bash -c"
    pids: Sequence[int] = ()
    facts: Mapping[str, str] = {"Output": "discarded; no queue, no results, no folders"}

    def __init__(self, tasks: int) -> None:
        self.tasks = tasks

    def prepare(self) -> None:
        """Nothing is needed."""

    def run(self) -> None:
        """Start them."""
        xargs.runs_per_s(_COMMAND, self.tasks, SLOTS)

    def finish(self) -> None:
        """It has failed already if any has."""
