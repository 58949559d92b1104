"""`python -m agent 16`: run 16 tasks at a time."""

import argparse
import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

import uvloop

from agent import limits, settings, state
from agent.session import CannotStartError
from agent.worker import Worker

_MOST_SLOTS = 10_000


def _slots(text: str) -> int:
    slots = int(text)
    if not 1 <= slots <= _MOST_SLOTS:
        raise argparse.ArgumentTypeError(f"must be from 1 to {_MOST_SLOTS}")
    return slots


async def _work(
    config: settings.Settings, slots: int, work: Path, inherited: dict[bytes, bytes]
) -> bool:
    worker = Worker(config, slots, work, inherited)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.drain)
    return await worker.run()


def main() -> int:
    """Run one agent; the exit status is 1 where it could not start or not send everything."""
    parser = argparse.ArgumentParser("agent", description="Run tasks that the API hands out.")
    parser.add_argument(
        "slots", type=_slots, nargs="?", default=os.cpu_count() or 1, help="tasks at a time"
    )
    slots = parser.parse_args().slots
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(message)s")
    try:
        config = settings.read(os.environ)
        logging.getLogger("agent").setLevel(config.log_level.upper())
        limits.raise_files(slots)
        inherited = settings.task_environment(os.environb)
        with (
            state.hold(config.state_dir) as work,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            return 0 if runner.run(_work(config, slots, work, inherited)) else 1
    except (
        settings.SettingsError,
        limits.LimitError,
        state.StateError,
        CannotStartError,
    ) as error:
        sys.stderr.write(f"agent: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
