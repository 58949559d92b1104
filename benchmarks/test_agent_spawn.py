"""Agent, processes: how many it starts, reads and reaps, 16 at a time, without API and tasks.

The limit is `xargs -P16` with the same command.
"""

import asyncio
import os
import shutil
import time

from agent.link import Link
from agent.process import Rules, start
from agent.trees import Tree, Trees
from benchmarks import xargs
from benchmarks.conftest import Meter
from schema.tasks import Stream

_AT_ONCE = 16
_RULES = Rules(timeout_s=None, silence_s=None, kill_grace_s=10, pipe_wait_s=5)


def _ignore(stream: Stream, data: bytes) -> None:
    pass


async def _spawn(count: int) -> None:
    bash = shutil.which("bash")
    assert bash is not None
    env = dict(os.environb)
    left = iter(range(count))
    link = Link(_AT_ONCE)
    trees = Trees("0123", "benchmark", link)
    mark = trees.mark(1, 1)

    def add_tree(pid: int) -> Tree:
        return trees.add(pid, mark, exclusive=False)

    async def spawn_one_after_the_other() -> None:
        for _ in left:
            process = start(
                (bash, b"-c", b"true"),
                cwd=None, env=env, sink=_ignore, rules=_RULES, clock=time.monotonic,
                add_tree=add_tree,
            )  # fmt: skip
            process.resume()
            try:
                end = await process.ended
            finally:
                process.abandon()
            assert (end.reason, end.exit_code) == ("exit", 0)

    with link:
        await asyncio.gather(*(spawn_one_after_the_other() for _ in range(_AT_ONCE)))


def test_agent_spawn(meter: Meter, runner: asyncio.Runner) -> None:
    """Processes a second by the agent's own spawn path, with two pipes each."""
    processes = meter.size(1000)
    meter.rounds(
        lambda: runner.run(_spawn(processes)),
        lambda: None,
        limit=lambda: xargs.runs_per_s("true", processes, _AT_ONCE),
    )
    meter.rate("processes", processes)
    meter.limit_in_turns("xargs -P16 bash -c true")
