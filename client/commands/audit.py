"""`dw audit`."""

from collections.abc import AsyncIterator

import click

from client import render
from client.client import Client
from client.commands.running import NARROW, console, json_option, run, write_json
from schema.audit import AuditEntry

_PAGE = 1000


@click.command("audit", epilog="Example: dw audit -n 10")
@click.option("--limit", "-n", type=click.IntRange(min=1), default=50, show_default=True)
@json_option
def command(limit: int, as_json: bool) -> int:
    """Show what people did, newest first.

    Who submitted, cancelled or retried tasks, drained agents, changed tokens, or logged in.
    """

    async def main(dw: Client) -> int:
        entries = [entry async for entry in _newest(dw, limit)]
        if as_json:
            write_json(entries)
        else:
            _table(entries)
        return 0

    return run(main)


async def _newest(dw: Client, limit: int) -> AsyncIterator[AuditEntry]:
    cursor: str | None = None
    while limit > 0:
        page = await dw.audit(limit=min(limit, _PAGE), cursor=cursor)
        for entry in page.entries:
            yield entry
        limit -= len(page.entries)
        cursor = page.next
        if cursor is None:
            return


def _table(entries: list[AuditEntry]) -> None:
    from rich.table import Table  # noqa: PLC0415 - see `console`
    from rich.text import Text  # noqa: PLC0415

    out = Table(box=None, pad_edge=False, header_style="bold")
    screen = console()
    when = "%Y-%m-%d %H:%M:%S" if screen.width >= NARROW else "%H:%M"
    out.add_column("when", no_wrap=True)
    out.add_column("who", overflow="fold")
    out.add_column("did")
    out.add_column("about", overflow="fold")
    for entry in entries:
        out.add_row(
            entry.at.astimezone().strftime(when),
            Text(render.one_line(entry.who)),
            Text(render.one_line(entry.action)),
            Text(render.one_line(_about(entry))),
        )
    screen.print(out)


def _about(entry: AuditEntry) -> str:
    if entry.task is None:
        return entry.about or ""
    of = f" of group {entry.about}" if entry.about else ""
    if entry.tasks == 1:
        return f"task {entry.task}{of}"
    return f"{entry.tasks:,} tasks{of}, the first is {entry.task}"
