"""`dw agents`, and the commands below it."""

from datetime import UTC, datetime

import click

from client import render
from client.client import Client
from client.commands.drain import command as drain
from client.commands.running import NARROW, complain, console, json_option, run, write_json
from schema.sessions import Agent


@click.group("agents", epilog="Example: dw agents --json", invoke_without_command=True)
@click.option("--all", "ended", is_flag=True, help="Include agents that have ended.")
@json_option
@click.pass_context
def command(ctx: click.Context, ended: bool, as_json: bool) -> int:
    """List agents: what they run, their slots, and what they offer."""
    if ctx.invoked_subcommand is not None:
        if ended or as_json:
            raise click.UsageError(f"options come after the command: {ctx.command_path} drain -h")
        return 0

    async def main(dw: Client) -> int:
        agents = await dw.agents(ended=ended)
        if as_json:
            write_json(agents)
        elif agents:
            _table(agents)
        else:
            complain("no agents: start one with `just agent 16`")
        return 0

    return run(main)


command.add_command(drain)


def _table(agents: list[Agent]) -> None:
    from rich.table import Table  # noqa: PLC0415 - see `console`
    from rich.text import Text  # noqa: PLC0415

    now = datetime.now(UTC)
    screen = console()
    wide = screen.width >= NARROW
    out = Table(box=None, pad_edge=False, header_style="bold")
    out.add_column("agent", no_wrap=True, overflow="ellipsis", max_width=30)
    out.add_column("state", no_wrap=True)
    out.add_column("running", justify="right", no_wrap=True)
    out.add_column("slots", justify="right", no_wrap=True)
    if wide:
        out.add_column("labels", overflow="fold")
        out.add_column("version", no_wrap=True)
        out.add_column("seen", justify="right", no_wrap=True)
    for agent in agents:
        state = ("draining" if agent.drain else "alive") if agent.alive else "ended"
        style = {"alive": "green", "draining": "yellow", "ended": "dim"}[state]
        cells: list[str | Text] = [
            Text(render.one_line(agent.agent)),
            Text(state, style=style),
            str(agent.running),
            str(agent.slots),
        ]
        if wide:
            cells += [
                Text(render.one_line(", ".join(agent.labels))),
                Text(render.one_line(agent.version)),
                render.age(agent.seen_at, now),
            ]
        out.add_row(*cells)
    screen.print(out)
