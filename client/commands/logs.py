"""`dw logs`."""

import sys
from typing import get_args

import click
from msgspec import UNSET

from client import outcome, render
from client.client import Client, Timestamps
from client.commands.running import complain, run, write
from client.following import STREAMS, follow
from schema.tasks import LogState, Stream, Task

_ABOUT: dict[LogState, str] = {
    "open": "this log may still grow: dw logs -f {id}",
    "missing": "bytes of this log never arrived: dw show {id} tells which",
    "damaged": "this log is not what the task wrote: dw show {id} tells more",
    "undeclared": "its agent never said how much there was: this is what arrived",
    "expired": "this log is older than the server keeps logs",
}
_LOST: tuple[LogState, ...] = ("damaged", "missing", "expired")
"""Worst first."""


@click.command("logs")
@click.argument("task_id", metavar="ID", type=click.IntRange(min=1))
@click.option("-f", "--follow", "following", is_flag=True, help="Write more as it arrives.")
@click.option("--stream", type=click.Choice(get_args(Stream)), help="Only this one.")
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="Only the last N lines.")
@click.option(
    "--timestamps",
    type=click.Choice(get_args(Timestamps)),
    default="none",
    show_default=True,
    help="When each line was written.",
)
@click.option("--attempt", type=click.IntRange(min=1), metavar="N", help="Not the newest one.")
def command(
    task_id: int,
    following: bool,
    stream: Stream | None,
    tail: int | None,
    timestamps: Timestamps,
    attempt: int | None,
) -> int:
    """Write a task's log: bytes as they are.

    Without -f, both streams go to stdout in the order of their arrival. With -f, each goes to
    its own until the task has ended and all is read.
    """
    if following and (tail is not None or timestamps != "none" or attempt is not None):
        raise click.UsageError(
            "-f writes the whole newest log: without --tail, --timestamps, --attempt"
        )

    async def main(dw: Client) -> int:
        if following:
            return _end(await follow_here(dw, task_id, stream), stream)
        async with dw.logs(
            task_id,
            stream=stream,
            attempt=attempt,
            tail=tail,
            timestamps=None if timestamps == "none" else timestamps,
        ) as log:
            async for piece in log:
                write(piece)
            return _tell(log.state, task_id)

    return run(main)


async def follow_here(dw: Client, task_id: int, stream: Stream | None = None) -> Task:
    """Follow a task: stdout to stdout, stderr to stderr, and on a terminal what happens to it."""
    tell = sys.stderr.isatty()

    def changed(task: Task) -> None:
        if not tell:
            return
        if task.attempt == 0:
            complain(f"task {task.id} is {task.status}")
        else:
            who = render.one_line(task.agent or "an agent")
            number = f", attempt {task.attempt}" if task.attempt > 1 else ""
            complain(f"task {task.id} {render.status(task)} on {who}{number}")

    def put(where: Stream, data: bytes) -> None:
        write(data, err=where == "stderr")

    return await follow(dw, task_id, put, streams=(stream,) if stream else STREAMS, changed=changed)


def _end(task: Task, stream: Stream | None) -> int:
    """Choose the exit code after a log was followed to its end."""
    if task.logs is UNSET:
        return 0
    states = {log.state for name, log in task.logs.items() if stream in (None, name)}
    worst = next((state for state in _LOST if state in states), None)
    return _tell(worst, task.id) if worst else 0


def _tell(state: LogState, task_id: int) -> int:
    if state in _ABOUT:
        complain(_ABOUT[state].format(id=task_id))
    return outcome.LOG_MISSING if state in _LOST else 0
