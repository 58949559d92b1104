"""`python -m agent 16`: run 16 tasks at a time."""

import argparse
import logging
import os
import sys

from agent import guardian, limits, settings, state
from agent.link import Link
from schema.sessions import MAX_SLOTS


def _slots(text: str) -> int:
    slots = int(text)
    if not 1 <= slots <= MAX_SLOTS:
        raise argparse.ArgumentTypeError(f"must be from 1 to {MAX_SLOTS}")
    return slots


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
        with state.hold(config.state_dir) as held:

            def work(link: Link) -> int:
                from agent import guarded  # noqa: PLC0415 - some 20 MiB that the guardian spares

                return guarded.run(config, slots, held, inherited, link)

            return guardian.run(work, slots, held.id, config.kill_grace_s)
    except (settings.SettingsError, limits.LimitError, state.StateError) as error:
        sys.stderr.write(f"agent: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
