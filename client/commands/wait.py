"""`dw wait`, and the waiting of `dw submit`."""

import sys
import time
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext

import click

from client import outcome, render, stuck
from client.client import Client
from client.commands.near import group_hints, task_hints
from client.commands.running import complain, console, json_option, run, write_json
from client.commands.types import DURATION, IDS, group_option
from client.waiting import Progress, Waited, pages

_SHOWN = 20  # tasks that did not succeed
_LINE_EVERY_S = 5.0


@click.command("wait", epilog="Example: dw wait --group nightly --at-most 2h")
@IDS
@group_option("All tasks of this group.")
@click.option("--at-most", type=DURATION, metavar="TIME", help="Give up after 90, 30s, 5m, 2h.")
@json_option
def command(ids: tuple[int, ...], group: str | None, at_most: float | None, as_json: bool) -> int:
    """Wait for tasks to end; the exit code is the outcome (see `dw --help`)."""
    if bool(ids) == bool(group):
        raise click.UsageError("name tasks or a group: dw wait ID..., dw wait --group G")

    async def main(dw: Client) -> int:
        return await wait_here(dw, ids, group, at_most, as_json)

    return run(main)


async def wait_here(
    dw: Client, ids: Collection[int], group: str | None, at_most_s: float | None, as_json: bool
) -> int:
    """Wait with progress on stderr, and tell the result on stdout; returns the exit code."""
    async with (
        group_hints(dw, group) if group else task_hints(dw, *ids),
        stuck.told(dw, stuck.OnceEach(complain), ids=ids, group=group),
    ):
        with _progress() as seen:
            waited = await dw.wait(ids, group=group, seen=seen, at_most_s=at_most_s)
    if as_json:
        async for task in pages(dw, ids=ids or None, group=None if ids else group):
            write_json([task])
    else:
        _tell(waited)
    return outcome.exit_code(filter(None, map(outcome.verdict, waited.others)))


def _tell(waited: Waited) -> None:
    from rich.text import Text  # noqa: PLC0415 - see `console`

    out = console()
    for task in waited.others[:_SHOWN]:
        line = Text(f"task {task.id} ")
        line.append(render.status(task), style=render.style(task))
        line.append(f"  {render.title(task)}")
        if task.message and outcome.verdict(task) == "infrastructure":
            line.append(f": {render.one_line(task.message)}")
        line.truncate(out.width, overflow="ellipsis")
        out.print(line)
    if len(waited.others) > _SHOWN:
        out.print(f"… and {len(waited.others) - _SHOWN:,} more")
    counts = Counter(outcome.verdict(task) for task in waited.others)
    parts = [f"{waited.succeeded:,} succeeded"]
    parts += [f"{counts[name]:,} {text}" for name, text in _WORDS if counts[name]]
    out.print(f"{', '.join(parts)} in {render.duration(waited.took_s)}")
    if ran := next((task.id for task in waited.others if task.attempt), None):
        complain(f"read a log with: dw logs {ran}")


_WORDS: tuple[tuple[outcome.Verdict, str], ...] = (
    ("failed", "failed"),
    ("infrastructure", "failed because of machines"),
    ("cancelled", "cancelled"),
)


def _progress() -> AbstractContextManager[Callable[[Progress], None]]:
    if sys.stderr.isatty():
        from client.commands.progress import bar  # noqa: PLC0415 - see `console`

        return bar(console(stderr=True))
    return nullcontext(_Lines())


class _Lines:
    """Progress where there is no terminal: a line when something changed, not too often."""

    def __init__(self) -> None:
        self._told = time.monotonic()
        self._ended = 0

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if progress.ended == self._ended or now - self._told < _LINE_EVERY_S:
            return
        self._told, self._ended = now, progress.ended
        bad = progress.failed + progress.cancelled
        text = f"{progress.ended:,} of {progress.total:,} ended"
        if bad:
            text += f", {bad:,} of them failed or cancelled"
        if progress.infrastructure:
            text += f" ({progress.infrastructure:,} because of machines)"
        complain(text)
