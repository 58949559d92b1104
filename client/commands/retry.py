"""`dw retry`."""

import click

from client.client import Client
from client.commands.running import IDS, complain, each, json_option, run, write_json
from client.waiting import pages


@click.command("retry")
@IDS
@click.option("--group", "-g", help="Every task of this group that failed.")
@json_option
def command(ids: tuple[int, ...], group: str | None, as_json: bool) -> int:
    """Run finished tasks once more. Their earlier attempts and logs are kept."""
    if bool(ids) == bool(group):
        raise click.UsageError("name tasks or a group: dw retry ID..., dw retry --group G")

    async def main(dw: Client) -> int:
        wanted: list[int] = list(ids)
        if group:
            await dw.group(group)
            wanted = [task.id async for task in pages(dw, group=group, status=("failed",))]
            if not wanted:
                complain(f"no task of group {group} has failed")

        async def one(task_id: int) -> None:
            task = await dw.retry(task_id)
            if as_json:
                write_json([task])
            else:
                click.echo(f"task {task.id} {task.status}, after attempt {task.attempt}")

        return await each(wanted, one)

    return run(main)
