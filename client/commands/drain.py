"""`dw agents drain`."""

import math
import time

import click

from client import render
from client.client import Client
from client.commands.near import agent_hints
from client.commands.running import complain, json_option, run, write_json
from client.commands.types import AGENT, DURATION

_LINE_EVERY_S = 5.0


@click.command("drain", epilog="Example: dw agents drain farm-3 --wait --at-most 2h")
@AGENT
@click.option("--wait", "-w", "waiting", is_flag=True, help="Wait until it has ended.")
@click.option("--at-most", type=DURATION, metavar="TIME", help="Give up after 90, 30s, 5m, 2h.")
@json_option
def command(name: str, waiting: bool, at_most: float | None, as_json: bool) -> int:
    """Let an agent finish its tasks and exit.

    It takes no more tasks, and returns those that have not started. This applies to every agent
    of that name, until it is restarted.
    """
    if at_most is not None and not waiting:
        raise click.UsageError("--at-most limits --wait: add --wait")
    shown = render.one_line(name)

    async def main(dw: Client) -> int:
        async with agent_hints(dw, name):
            asked = await dw.drain(name)
        if as_json:
            write_json([asked])
        elif asked.agents == 1:
            click.echo(f"agent {shown} will exit when it has finished its tasks")
        else:
            click.echo(
                f"{asked.agents:,} agents {shown} will exit when they have finished their tasks"
            )
        if waiting:
            await dw.drained(name, seen=_Lines(shown), at_most_s=at_most)
            if not as_json:
                click.echo(f"agent {shown} has ended" if asked.agents == 1 else "all have ended")
        return 0

    return run(main)


class _Lines:
    """What is waited for, on stderr: at first, and when it changed, not too often."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._told = -math.inf
        self._running = 0

    def __call__(self, agents: int, running: int) -> None:
        now = time.monotonic()
        if not agents or running == self._running or now - self._told < _LINE_EVERY_S:
            return
        self._told, self._running = now, running
        complain(f"{self._name} still runs {running:,} {'task' if running == 1 else 'tasks'}")
