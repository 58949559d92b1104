"""`dw retry`."""

import click

from client import render
from client.client import Client
from client.commands.near import group_hints
from client.commands.running import each, json_option, run, write_json
from client.commands.types import IDS, group_option
from schema.tasks import FinalStatus


@click.command("retry", epilog="Examples: dw retry 17, dw retry --group nightly --failed")
@IDS
@group_option("The failed tasks of this group, unless an option below says otherwise.")
@click.option("--failed", is_flag=True, help="The failed tasks of the group.")
@click.option("--cancelled", is_flag=True, help="The cancelled tasks of the group.")
@click.option("--all", "every", is_flag=True, help="All ended tasks of the group.")
@json_option
def command(
    ids: tuple[int, ...],
    group: str | None,
    failed: bool,
    cancelled: bool,
    every: bool,
    as_json: bool,
) -> int:
    """Run finished tasks again. Their earlier attempts and logs are kept."""
    if bool(ids) == bool(group):
        raise click.UsageError("name tasks or a group: dw retry ID..., dw retry --group G")
    if ids and (failed or cancelled or every):
        raise click.UsageError("--failed, --cancelled and --all need --group")

    async def main(dw: Client) -> int:
        if group:
            status = _chosen(failed=failed, cancelled=cancelled, every=every)
            async with group_hints(dw, group):
                done = await dw.retry_group(group, status)
            if as_json:
                write_json([done])
                return 0
            tasks = "1 task" if done.retried == 1 else f"{done.retried:,} tasks"
            again = f"{tasks} will run again" if done.retried else f"no task has {_either(status)}"
            click.echo(f"group {render.one_line(group)}: {again}")
            return 0

        async def one(task_id: int) -> None:
            task = await dw.retry(task_id)
            if as_json:
                write_json([task])
            else:
                click.echo(f"task {task.id} {task.status}, after attempt {task.attempt}")

        return await each(dw, ids, one)

    return run(main)


def _chosen(*, failed: bool, cancelled: bool, every: bool) -> tuple[FinalStatus, ...]:
    if every:
        return ("failed", "cancelled", "succeeded")
    chosen: list[FinalStatus] = ["failed"] if failed or not cancelled else []
    return (*chosen, "cancelled") if cancelled else tuple(chosen)


def _either(status: tuple[FinalStatus, ...]) -> str:
    words = {"failed": "failed", "cancelled": "been cancelled", "succeeded": "succeeded"}
    return " or ".join(words[each] for each in status)
