"""`python -m loadtest.chaos`: one campaign of DURATION seconds, drawn from SEED."""

import asyncio
import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import uvloop

from loadtest.chaos import report
from loadtest.chaos.campaign import Campaign, Outcome

_DURATION_S = 180
_SEEDS = 1_000_000
_INTERRUPTED = 130


def _number(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name) or str(default)
    if not text.isdecimal():
        sys.exit(f"{name}={text!r} is no whole number")
    return int(text)


async def _run(seed: int, duration_s: float, folder: Path) -> Outcome:
    task = asyncio.current_task()
    assert task is not None
    # As Ctrl-C: the machines are stopped first.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await Campaign(seed, duration_s, folder, _say).run()


def _say(line: str) -> None:
    print(line, flush=True)


def main() -> int:
    """Run it; 1 where something did not hold: then everything is kept."""
    duration_s = _number(os.environ, "DURATION", _DURATION_S)
    seed = _number(os.environ, "SEED", random.randrange(_SEEDS))
    folder = Path(tempfile.mkdtemp(prefix="dw-chaos-")).resolve()
    _say(f"SEED={seed} DURATION={duration_s}, in {folder}")
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            outcome = runner.run(_run(seed, duration_s, folder))
    except (KeyboardInterrupt, asyncio.CancelledError):
        shutil.rmtree(folder, ignore_errors=True)
        return _INTERRUPTED
    for line in report.render(outcome):
        _say(line)
    if outcome.findings.violations:
        _say(f"\nwhat the programs said, and the journal: {folder}")
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
