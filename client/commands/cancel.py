"""`dw cancel`."""

import click

from client import render
from client.client import Client
from client.commands.running import IDS, each, json_option, run, write_json
from client.waiting import pages
from schema.tasks import Task


@click.command("cancel")
@IDS
@click.option("--group", "-g", help="Every task of this group that has not ended.")
@json_option
def command(ids: tuple[int, ...], group: str | None, as_json: bool) -> int:
    """End tasks, or keep them from starting.

    A task that runs is asked to end (TERM, then KILL), with everything that it started.
    """
    if bool(ids) == bool(group):
        raise click.UsageError("name tasks or a group: dw cancel ID..., dw cancel --group G")

    async def main(dw: Client) -> int:
        wanted: list[int] = list(ids)
        if group:
            await dw.group(group)
            open_tasks = pages(dw, group=group, status=("pending", "scheduled", "in_progress"))
            wanted = [task.id async for task in open_tasks]

        async def one(task_id: int) -> None:
            task = await dw.cancel(task_id)
            if as_json:
                write_json([task])
            else:
                click.echo(f"task {task.id} {_said(task)}")

        return await each(wanted, one)

    return run(main)


def _said(task: Task) -> str:
    if task.status == "in_progress":
        return f"is being ended by {render.one_line(task.agent or 'its agent')}"
    return task.status if task.status == "cancelled" else f"had ended: {render.status(task)}"
