"""`dw cancel`."""

import click

from client import render
from client.client import Client
from client.commands.near import group_hints
from client.commands.running import each, json_option, run, write_json
from client.commands.types import IDS, group_option
from schema.tasks import GroupCancelled, Task


@click.command("cancel", epilog="Examples: dw cancel 17 18, dw cancel --group nightly")
@IDS
@group_option("All unfinished tasks of this group.")
@json_option
def command(ids: tuple[int, ...], group: str | None, as_json: bool) -> int:
    """Stop tasks, or keep them from starting.

    A running task is ended (TERM, then KILL) with everything that it started.
    """
    if bool(ids) == bool(group):
        raise click.UsageError("name tasks or a group: dw cancel ID..., dw cancel --group G")

    async def main(dw: Client) -> int:
        if group:
            async with group_hints(dw, group):
                done = await dw.cancel_group(group)
            if as_json:
                write_json([done])
            else:
                click.echo(f"group {render.one_line(group)}: {_said_of(done)}")
            return 0

        async def one(task_id: int) -> None:
            task = await dw.cancel(task_id)
            if as_json:
                write_json([task])
            else:
                click.echo(f"task {task.id} {_said(task)}")

        return await each(dw, ids, one)

    return run(main)


def _said(task: Task) -> str:
    if task.status == "in_progress":
        return f"is being ended by {render.one_line(task.agent or 'its agent')}"
    return task.status if task.status == "cancelled" else f"had ended: {render.status(task)}"


def _said_of(done: GroupCancelled) -> str:
    if not done.cancelled and not done.asked:
        return "all its tasks had ended"
    parts = [f"{done.cancelled:,} cancelled"] if done.cancelled else []
    if done.asked:
        parts.append(f"{done.asked:,} {'is' if done.asked == 1 else 'are'} being ended")
    return ", ".join(parts)
