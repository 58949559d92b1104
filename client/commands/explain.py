"""`dw explain`."""

import click

from client import render
from client.client import Client
from client.commands.running import each, json_option, run, write_json
from client.commands.types import IDS


@click.command("explain", epilog="Example: dw explain 17")
@IDS
@json_option
def command(ids: tuple[int, ...], as_json: bool) -> int:
    """Explain why tasks are still pending, or what they are doing instead."""
    if not ids:
        raise click.UsageError("name a task: dw explain ID")

    async def main(dw: Client) -> int:
        async def one(task_id: int) -> None:
            explained = await dw.explain(task_id)
            if as_json:
                write_json([explained])
                return
            waits = explained.status in {"pending", "scheduled"}
            said = f"task {task_id} is {explained.status}:" if waits else f"task {task_id}:"
            click.echo(f"{said} {render.one_line(explained.text)}")

        return await each(dw, ids, one)

    return run(main)
