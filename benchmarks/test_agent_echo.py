"""Agent, small tasks: how many `echo hello` get through from end to end, 16 at a time.

From `POST /tasks` with all of them until their group says that all succeeded; each log is stored.
The limit is `xargs -P16` with the same commands.
"""

import asyncio
import itertools

import pytest

from benchmarks import tables, xargs
from benchmarks.conftest import Meter
from benchmarks.people import People
from benchmarks.server import BenchServer
from schema.tasks import Submission

_COMMAND = "echo hello"


@pytest.mark.usefixtures("agent")
def test_agent_echo(
    meter: Meter, people: People, runner: asyncio.Runner, server: BenchServer
) -> None:
    """Tasks a second through API, database and agent."""
    tasks = meter.size(2000)
    numbers = itertools.count(1)
    done: list[int] = []

    def echo() -> None:
        group = f"echo-{next(numbers)}"
        done.extend(people.submit([Submission(command=_COMMAND, group=group)] * tasks))
        assert people.wait(group).counts == {"succeeded": tasks}

    meter.rounds(echo, lambda: None, limit=lambda: xargs.runs_per_s(_COMMAND, tasks))
    meter.rate("tasks", tasks)
    meter.limit_in_turns(f"xargs -P16 bash -c '{_COMMAND}'")
    assert runner.run(tables.count_chunks(server, done)) == len(done)
