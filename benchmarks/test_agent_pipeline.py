"""Agent, chatty tasks: how many MB of log a second get from two tasks' pipes into the table.

Each task writes 96 MiB of varied lines; from `POST /tasks` until both results are committed, and
so all log before them. The limit is a bare COPY of chunks as the agent compresses them.
"""

import asyncio
import itertools
import shlex
from pathlib import Path

import pytest
from isal import isal_zlib

from benchmarks import limits, logfile
from benchmarks.conftest import Meter
from benchmarks.people import People
from benchmarks.server import BenchServer
from loadtest import payloads
from schema.tasks import Submission

_TASKS = 2
_CHUNK_BYTES = 512 * 1024  # the agent's default
_LIMIT_S = 1.5


@pytest.mark.usefixtures("agent")
def test_agent_pipeline(
    meter: Meter,
    people: People,
    runner: asyncio.Runner,
    server: BenchServer,
    tmp_path: Path,
) -> None:
    """Chunks of 512 KiB a second through pipe, gzip, HTTP, inflating and COPY."""
    chunks = meter.size(192)
    path = tmp_path / "log"
    logfile.write(path, chunks * _CHUNK_BYTES)
    numbers = itertools.count(1)
    done: list[int] = []
    payload = payloads.real(_CHUNK_BYTES)
    content = isal_zlib.compress(payload.data, 1, 31)

    def write() -> None:
        group = f"pipeline-{next(numbers)}"
        task = Submission(command=f"cat {shlex.quote(str(path))}", group=group)
        done.extend(people.submit([task] * _TASKS))
        assert people.wait(group).counts == {"succeeded": _TASKS}

    def copy() -> float:
        seconds = meter.seconds(_LIMIT_S)
        return runner.run(limits.copies_per_s(server, payload, content, seconds))

    meter.rounds(write, lambda: None, limit=copy)
    rate = meter.rate("chunks", chunks * _TASKS)
    meter.info["log_mb_per_s"] = round(rate * _CHUNK_BYTES / 1e6, 1)
    meter.limit_in_turns("COPY of such chunks, 2 connections")
    for task in done:
        logs = people.show(task).logs
        assert isinstance(logs, dict)
        assert (logs["stdout"].state, logs["stdout"].bytes) == (
            "complete",
            chunks * _CHUNK_BYTES,
        )
