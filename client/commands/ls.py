"""`dw ls`."""

from datetime import UTC, datetime
from typing import get_args

import click

from client import outcome, render
from client.client import Client
from client.commands.completing import agent_names
from client.commands.near import group_hints
from client.commands.running import NARROW, complain, console, json_option, run, write_json
from client.commands.types import group_option
from schema.tasks import Status, Task

_PAGE = 500  # tasks a request


@click.command("ls", epilog="Example: dw ls --group nightly --status failed")
@click.option(
    "--status",
    "-s",
    multiple=True,
    type=click.Choice(get_args(Status)),
    help="Only this status. Repeatable.",
)
@group_option("Only tasks of this group.")
@click.option("--name", help="Only tasks with exactly this name.")
@click.option("--agent", help="Only tasks run by this agent.", shell_complete=agent_names)
@click.option("-n", "count", type=click.IntRange(min=1), default=20, show_default=True)
@json_option
def command(
    status: tuple[Status, ...],
    group: str | None,
    name: str | None,
    agent: str | None,
    count: int,
    as_json: bool,
) -> int:
    """List tasks, newest first."""

    async def main(dw: Client) -> int:
        tasks: list[Task] = []
        cursor: str | None = None
        while True:
            page = await dw.tasks(
                status=status,
                group=group,
                name=name,
                agent=agent,
                limit=min(_PAGE, count - len(tasks)),
                cursor=cursor,
            )
            tasks += page.tasks
            cursor = page.next
            if cursor is None or len(tasks) >= count:
                break
        if group and not tasks:
            async with group_hints(dw, group):
                await dw.group(group)
        if as_json:
            write_json(tasks)
            return 0
        if tasks:
            table(tasks)
        else:
            complain("no such tasks" if status or group or name or agent else "no tasks yet")
        if lost := sum(outcome.verdict(task) == "infrastructure" for task in tasks):
            complain(f"{lost} of these failed because of machines, not by themselves: dw show ID")
        if cursor is not None:
            complain(f"there are more: dw ls -n {count * 5}")
        return 0

    return run(main)


def table(tasks: list[Task]) -> None:
    """Write one line for each task."""
    from rich.table import Table  # noqa: PLC0415 - see `console`
    from rich.text import Text  # noqa: PLC0415

    now = datetime.now(UTC)
    screen = console()
    wide = screen.width >= NARROW
    out = Table(box=None, pad_edge=False, header_style="bold")
    out.add_column("id", justify="right", no_wrap=True)
    out.add_column("status", no_wrap=True)
    out.add_column("task")  # the only one that may be made narrower: its cells are cut
    if wide:
        out.add_column("agent", no_wrap=True, overflow="ellipsis", max_width=20)
        out.add_column("ran", justify="right", no_wrap=True)
    out.add_column("age", justify="right", no_wrap=True)
    for task in tasks:
        cells: list[str | Text] = [
            str(task.id),
            Text(render.status(task), style=render.style(task)),
            Text(render.title(task), no_wrap=True, overflow="ellipsis"),
        ]
        if wide:
            cells += [Text(render.one_line(task.agent or "")), render.run_time(task, now)]
        out.add_row(*cells, render.age(task.submitted_at, now))
    screen.print(out)
