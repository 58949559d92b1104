"""The worker's process, forked by the guardian: its event loop, and what the guardian tells it."""

import asyncio
import gc
import logging
import sys

import uvloop

from agent import linux
from agent.engine import Engine
from agent.isolation import CannotIsolateError, Launcher
from agent.link import Link, hear
from agent.session import CannotStartError
from agent.settings import Settings
from agent.state import State
from agent.task_limits import CannotLimitError, task_limits
from agent.worker import Worker

_GC_OBJECTS = 20_000  # made and not freed, between two looks for circles of garbage
log = logging.getLogger("agent")


def run(
    config: Settings,
    slots: int,
    state: State,
    inherited: dict[bytes, bytes],
    link: Link,
    engine: Engine | None,
) -> int:
    """Work until drained; the exit status. `engine` is None where no containers are wanted."""
    linux.adopt_orphans()
    linux.free_large_blocks()
    try:
        limits = task_limits(config, state.id, slots)
        try:
            launcher = Launcher(config, inherited, state.root, engine, limits)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                return 0 if runner.run(_work(config, slots, state, launcher, link)) else 1
        finally:
            limits.close()
    except (CannotStartError, CannotIsolateError, CannotLimitError) as error:
        sys.stderr.write(f"agent: {error}\n")
        return 1


async def _work(config: Settings, slots: int, state: State, launcher: Launcher, link: Link) -> bool:
    worker = Worker(config, slots, state, launcher, link)
    loop = asyncio.get_running_loop()

    def told() -> None:
        said = hear(link.worker)
        if not said:
            loop.remove_reader(link.worker)
            log.error("the guardian of this agent was killed: stopping at once")
            said = b".."
        for _ in said:
            worker.draining.ask()

    loop.add_reader(link.worker, told)
    # What is there now stays: the collector took 7 % of an agent with many short tasks looking at
    # it again.
    gc.freeze()
    gc.set_threshold(_GC_OBJECTS)
    return await worker.run()
