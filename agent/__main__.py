"""`python -m agent 16`: run 16 tasks at a time."""

import argparse
import logging
import os
import sys
from typing import TYPE_CHECKING

from agent import guardian, limits, settings, state
from agent.link import Link
from schema.release import version
from schema.sessions import MAX_SLOTS

if TYPE_CHECKING:
    from agent.engine import Engine


def _slots(text: str) -> int:
    slots = int(text)
    if not 1 <= slots <= MAX_SLOTS:
        raise argparse.ArgumentTypeError(f"must be from 1 to {MAX_SLOTS}")
    return slots


def _engine(config: settings.Settings, held: state.State) -> "Engine | None":
    """What ends containers, where tasks may have some."""
    if not config.image and not config.images:
        return None
    from agent.engine import Engine  # noqa: PLC0415 - a guardian without containers spares it

    return Engine(config.docker, held.id)


def main() -> int:
    """Run one agent; the exit status is 1 where it could not start or not send everything."""
    parser = argparse.ArgumentParser(
        "agent",
        description="Run tasks for the API. Environment variables set it up: see docs/settings.md.",
    )
    parser.add_argument(
        "slots",
        type=_slots,
        nargs="?",
        default=os.cpu_count() or 1,
        help="tasks to run in parallel (default: one per processor)",
    )
    parser.add_argument("--version", "-V", action="version", version=f"agent {version()}")
    slots = parser.parse_args().slots
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(message)s")
    try:
        config = settings.read(os.environ)
        logging.getLogger("agent").setLevel(config.log_level.upper())
        limits.raise_files(slots)
        inherited = settings.task_environment(os.environb)
        with state.hold(config.state_dir) as held:
            engine = _engine(config, held)
            if engine is not None:
                engine.remove_all()

            def work(link: Link) -> int:
                from agent import guarded  # noqa: PLC0415 - some 20 MiB that the guardian spares

                return guarded.run(config, slots, held, inherited, link, engine)

            return guardian.run(work, slots, held.id, config.kill_grace_s, engine)
    except (settings.SettingsError, limits.LimitError, state.StateError) as error:
        sys.stderr.write(f"agent: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
