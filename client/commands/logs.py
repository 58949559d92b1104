"""`dw logs`."""

import os
import sys
from contextlib import aclosing
from typing import get_args

import click
import msgspec
from msgspec import UNSET

from client import outcome, render
from client.client import Client, Lines, Log, Timestamps
from client.commands.running import complain, run, write
from client.following import STREAMS, follow
from client.group_following import follow_group
from schema.logs import LogOver, TaskEnded
from schema.tasks import LogState, Stream, Task

_ABOUT: dict[LogState, str] = {
    "open": "this log may still grow: dw logs -f {id}",
    "cut": "the middle of this log, or its end, was too much to keep: dw show {id} tells more",
    "missing": "bytes of this log never arrived: dw show {id} tells which",
    "damaged": "this log is not what the task wrote: dw show {id} tells more",
    "undeclared": "its agent never said how much there was: this is what arrived",
    "expired": "this log is older than the server keeps logs",
}
_LOST: tuple[LogState, ...] = ("damaged", "missing", "expired")
"""Worst first."""

_COLOURS = ("cyan", "yellow", "green", "magenta", "blue", "bright_red")


@click.command("logs")
@click.argument("task_id", metavar="[ID]", type=click.IntRange(min=1), required=False)
@click.option("--group", metavar="NAME", help="Of all its tasks, each line with its task's number.")
@click.option("-f", "--follow", "following", is_flag=True, help="Write more as it arrives.")
@click.option("--stream", type=click.Choice(get_args(Stream)), help="Only this one.")
@click.option("--tail", type=click.IntRange(0, 10_000), metavar="N", help="Only the last N lines.")
@click.option("--line", type=click.IntRange(min=1), metavar="N", help="From line N on.")
@click.option("--grep", metavar="TEXT", help="Only lines that have this text in them.")
@click.option("--wildcards", is_flag=True, help="* in it stands for any characters.")
@click.option("-i", "--ignore-case", is_flag=True, help="Of ASCII letters in it.")
@click.option("-n", "--numbers", is_flag=True, help="The number of each line.")
@click.option(
    "--timestamps",
    type=click.Choice(get_args(Timestamps)),
    default="none",
    show_default=True,
    help="When each line was written.",
)
@click.option("--attempt", type=click.IntRange(min=1), metavar="N", help="Not the newest one.")
def command(
    task_id: int | None,
    group: str | None,
    following: bool,
    stream: Stream | None,
    attempt: int | None,
    **options: object,
) -> int:
    """Write a task's log: bytes as they are.

    Without -f, both streams go to stdout in the order of their arrival. With -f, each goes to
    its own until the task has ended and all is read.
    """
    lines = msgspec.convert(options, Lines)
    if (task_id is None) == (group is None):
        raise click.UsageError("name a task or a group: dw logs ID, dw logs --group NAME")
    if following and (attempt is not None or lines != Lines(tail=lines.tail)):
        raise click.UsageError("-f writes the newest log as it is: with --tail and --stream only")
    if group is not None and (attempt is not None or lines.line is not None):
        raise click.UsageError("--group goes without --attempt and --line")

    async def main(dw: Client) -> int:
        if task_id is None:
            assert group is not None
            if following:
                return await _follow_group(dw, group, stream, lines.tail)
            async with dw.group_logs(group, stream=stream, lines=lines) as log:
                return await _write(log)
        if following:
            return _end(await follow_here(dw, task_id, stream, lines.tail), stream)
        async with dw.logs(task_id, stream=stream, attempt=attempt, lines=lines) as log:
            await _write(log)
            return _tell(log.state, task_id)

    return run(main)


async def _write(log: Log) -> int:
    async for piece in log:
        write(piece)
    return 0


async def follow_here(
    dw: Client, task_id: int, stream: Stream | None = None, tail: int | None = None
) -> Task:
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

    streams = (stream,) if stream else STREAMS
    return await follow(dw, task_id, put, streams=streams, tail=tail, changed=changed)


async def _follow_group(dw: Client, group: str, stream: Stream | None, tail: int | None) -> int:
    """Follow all tasks of a group, each line behind its task's number; returns the exit code."""
    worst = 0

    def put(task: int, where: Stream, line: bytes) -> None:
        err = where == "stderr"
        write(_prefix(task, err=err) + line, err=err)

    def told(log: LogOver) -> None:
        nonlocal worst
        if log.state in _LOST:
            worst = _tell(log.state, log.task)

    def ended(end: TaskEnded) -> None:
        if end.status != "succeeded" or sys.stderr.isatty():
            complain(f"task {end.task} {render.ending(end)}")

    async with aclosing(dw.live_group(group, stream=stream, tail=tail)) as events:
        await follow_group(events, put, ended=ended, told=told)
    return worst


def _prefix(task: int, *, err: bool) -> bytes:
    """The number of a task, in a colour of its own where somebody sees it."""
    text = f"{task} | "
    if (sys.stderr if err else sys.stdout).isatty() and not os.environ.get("NO_COLOR"):
        text = click.style(text, fg=_COLOURS[task % len(_COLOURS)])
    return text.encode()


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
