"""`dw group`, and what is left behind when a group has been watched."""

import asyncio
from collections.abc import Collection
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click
from msgspec import UNSET, Struct

from client import outcome, render
from client.client import Client
from client.commands.near import group_hints
from client.commands.running import console, json_option, run, write_json
from client.commands.types import GROUP
from client.errors import DwError
from client.logs import Lines
from client.watching import failure_of
from schema.tasks import Group, Status, Task

if TYPE_CHECKING:
    from rich.text import Text

_FAILURES = 20
_WITH_LINES = 10
_LINES = 3
_SLOWEST = 5


class Report(Struct, frozen=True):
    """A group, its newest failures, and the last lines of some of those."""

    group: Group
    failures: tuple[Task, ...]
    lines: dict[int, tuple[str, ...]]


@click.command("group", epilog="Example: dw group nightly")
@GROUP
@json_option
def command(group: str, as_json: bool) -> int:
    """Show a group: counts, failures with their last lines, slowest tasks."""

    async def main(dw: Client) -> int:
        report = await look(dw, group)
        if as_json:
            write_json([report])
        else:
            tell(report)
        return 0

    return run(main)


async def look(dw: Client, name: str) -> Report:
    """Ask for all that is shown of a group; NotFoundError."""
    async with group_hints(dw, name):
        group = await dw.group(name, slowest=_SLOWEST)
    page = await dw.tasks(group=name, status=("failed", "cancelled"), limit=_FAILURES)
    failed = [task.id for task in page.tasks if task.status == "failed"]
    return Report(group, page.tasks, await last_lines(dw, failed[:_WITH_LINES]))


async def last_lines(dw: Client, ids: Collection[int]) -> dict[int, tuple[str, ...]]:
    """Read the last lines of some tasks at once; none where they cannot be read."""
    found: dict[int, tuple[str, ...]] = {}

    async def one(task_id: int) -> None:
        with suppress(DwError):
            page = await dw.log_page(task_id, lines=Lines(tail=_LINES))
            found[task_id] = tuple(line.text for line in page.lines)

    async with asyncio.TaskGroup() as group:
        for task_id in ids:
            group.create_task(one(task_id))
    return found


def tell(report: Report) -> None:
    """Write it for people: what failed stands before what was slow."""
    from rich.text import Text  # noqa: PLC0415 - see `console`

    group = report.group
    now = datetime.now(UTC)
    out = console()
    lines = [_head(group, now), _counts(group)]
    if report.failures:
        lines += [Text(), *_failures(report)]
    if group.slowest is not UNSET and group.slowest:
        lines += [Text(), Text("slowest", style="bold"), *(_slow(task) for task in group.slowest)]
    for line in lines:
        out.print(line, no_wrap=True, overflow="ellipsis")


def _head(group: Group, now: datetime) -> "Text":
    from rich.text import Text  # noqa: PLC0415 - see `console`

    line = Text("group ").append(render.one_line(group.name), style="bold")
    end = group.finished_at or group.counted_at or now
    took = render.duration((end - group.submitted_at).total_seconds())
    return line.append(f"  ended after {took}" if group.finished_at else f"  for {took}")


def _counts(group: Group) -> "Text":
    from rich.text import Text  # noqa: PLC0415 - see `console`

    line = Text(f"{group.total:,} {'task' if group.total == 1 else 'tasks'}: ")
    parts = [
        Text(f"{count:,} {word}", style=render.STYLES[how])
        for how, word in _ENDED
        if (count := outcome.by_verdict(group)[how])
    ]
    parts += [
        Text(f"{count:,} {word}")
        for status, word in _OPEN
        if (count := group.counts.get(status, 0))
    ]
    return line.append_text(Text(", ").join(parts))


_OPEN: tuple[tuple[Status, str], ...] = (
    ("in_progress", "running"),
    ("pending", "pending"),
    ("scheduled", "scheduled"),
)
_ENDED: tuple[tuple[outcome.Verdict, str], ...] = (
    ("failed", "failed"),
    ("infrastructure", "failed because of machines"),
    ("cancelled", "cancelled"),
    ("succeeded", "succeeded"),
)


def _failures(report: Report) -> list["Text"]:
    from rich.text import Text  # noqa: PLC0415 - see `console`

    from client.commands.watch_view import failure_lines  # noqa: PLC0415 - imports rich

    lines = [Text("not succeeded", style="bold")]
    for task in report.failures:
        failure = failure_of(task, report.lines.get(task.id, ()))
        if failure is not None:
            lines += failure_lines(failure, render.title(task))
    counts = report.group.counts
    more = counts.get("failed", 0) + counts.get("cancelled", 0) - len(report.failures)
    if more > 0:
        name = render.one_line(report.group.name)
        lines.append(Text(f"… and {more:,} more: dw ls --group {name} --status failed -n 1000"))
    return lines


def _slow(task: Task) -> "Text":
    from rich.text import Text  # noqa: PLC0415 - see `console`

    line = Text(f"{task.id:>8}  {render.run_time(task, datetime.now(UTC)):>8}  ")
    line.append(render.status(task), style=render.style(task)).append(f"  {render.title(task)}")
    return line.append(f"  on {render.one_line(task.agent)}", style="dim") if task.agent else line
