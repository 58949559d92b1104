"""`dw logs`."""

import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import get_args

import click
import msgspec
from msgspec import UNSET

from client import outcome, render, stuck
from client.client import Client
from client.commands.logs_json import follow_json, write_pages
from client.commands.near import group_hints, task_hints
from client.commands.running import coloured, complain, run, write
from client.commands.types import ID, group_option
from client.commands.watch_lines import write_events
from client.following import STREAMS, follow
from client.group_following import follow_group
from client.live import LiveEvent
from client.logs import Lines, Log, Timestamps
from schema.logs import MAX_PAGE_LINES, LogOver, TaskEnded
from schema.tasks import FINAL, LogState, Stream, Task

_ABOUT: dict[LogState, str] = {
    "open": "this log may still grow: dw logs -f {id}",
    "cut": "this log exceeded its limit, a part is left out: dw show {id} tells more",
    "missing": "bytes of this log never arrived: dw show {id} says which",
    "damaged": "this log is not what the task wrote: dw show {id} says more",
    "undeclared": "its agent never said how much there was: this is what arrived",
    "expired": "this log is older than the server keeps logs",
}
_COLOURS = ("cyan", "yellow", "green", "magenta", "blue", "bright_red")


@click.command("logs", epilog="Examples: dw logs -f 17, dw logs --group nightly --grep 'timed out'")
@ID
@group_option("The logs of all its tasks, each line prefixed with its task's id.")
@click.option("-f", "--follow", "following", is_flag=True, help="Keep printing as it grows.")
@click.option("--stream", type=click.Choice(get_args(Stream)), help="Only this stream.")
@click.option("--tail", type=click.IntRange(0, 10_000), metavar="N", help="Only the last N lines.")
@click.option("--line", type=click.IntRange(min=1), metavar="N", help="Start at line N.")
@click.option("--grep", metavar="TEXT", help="Only lines that contain this text.")
@click.option("--wildcards", is_flag=True, help="* in --grep matches any characters.")
@click.option(
    "-i", "--ignore-case", is_flag=True, help="Ignore the case of ASCII letters in --grep."
)
@click.option("-n", "--numbers", is_flag=True, help="Prefix each line with its number.")
@click.option(
    "--timestamps",
    type=click.Choice(get_args(Timestamps)),
    default="none",
    show_default=True,
    help="When each line was written.",
)
@click.option(
    "--attempt",
    type=click.IntRange(min=1),
    metavar="N",
    help="Of this attempt instead of the newest.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON object per line; with -f, per event."
)
def command(
    task_id: int | None,
    group: str | None,
    following: bool,
    stream: Stream | None,
    attempt: int | None,
    as_json: bool,
    **options: object,
) -> int:
    """Print the log of a task or group, once or as it grows, byte for byte.

    Without -f, both streams go to stdout in order of arrival. With -f, each goes to its own
    until the task has ended and everything is printed.
    """
    lines = msgspec.convert(options, Lines)
    if (task_id is None) == (group is None):
        raise click.UsageError("name a task or a group: dw logs ID, dw logs --group NAME")
    if wrong := _wrong(
        lines, attempt, of_group=group is not None, following=following, as_json=as_json
    ):
        raise click.UsageError(wrong)

    async def main(dw: Client) -> int:
        if task_id is None:
            assert group is not None
            async with group_hints(dw, group):
                return await _of_group(dw, group, stream, lines, following, as_json)
        async with task_hints(dw, task_id):
            if as_json and following:
                return await follow_json(dw, task_id, stream, lines.tail)
            if as_json:
                return _tell(await write_pages(dw, task_id, stream, attempt, lines), task_id)
            if following:
                return _end(await follow_here(dw, task_id, stream, lines.tail), stream)
            async with dw.logs(task_id, stream=stream, attempt=attempt, lines=lines) as log:
                await _write(log)
            if log.state == "open" and (task := await dw.task(task_id)).attempt == 0:
                complain(_unstarted(task))
                return 0
            return _tell(log.state, task_id)

    return run(main)


def _wrong(
    lines: Lines, attempt: int | None, *, of_group: bool, following: bool, as_json: bool
) -> str | None:
    """Name options that do not go together."""
    if following:
        if attempt is not None or lines != Lines(tail=lines.tail):
            return "-f follows the newest attempt: use it with --tail and --stream only"
    elif of_group:
        if attempt is not None or lines.line is not None:
            return "--group cannot be used with --attempt or --line"
        if as_json:
            return "--json of a group needs -f"
    elif (
        as_json
        and lines.tail is not None
        and (lines.grep is not None or lines.tail > MAX_PAGE_LINES)
    ):
        return f"--json allows --tail up to {MAX_PAGE_LINES}, without --grep"
    return None


async def _of_group(
    dw: Client, group: str, stream: Stream | None, lines: Lines, following: bool, as_json: bool
) -> int:
    if not following:
        async with dw.group_logs(group, stream=stream, lines=lines) as log:
            return await _write(log)
    async with (
        stuck.told(dw, stuck.OnceEach(complain), group=group),
        aclosing(dw.live_group(group, stream=stream, tail=lines.tail)) as events,
    ):
        return await (write_events(events, output=True) if as_json else _follow_group(events))


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
    async with stuck.told(dw, stuck.OnceEach(complain), ids=(task_id,)):
        return await follow(dw, task_id, put, streams=streams, tail=tail, changed=changed)


async def _follow_group(events: AsyncIterator[LiveEvent]) -> int:
    """Follow all tasks of a group, each line behind its task's number; returns the exit code."""
    worst = 0

    def put(task: int, where: Stream, line: bytes) -> None:
        err = where == "stderr"
        write(_prefix(task, err=err) + line, err=err)

    def told(log: LogOver) -> None:
        nonlocal worst
        if log.state in outcome.LOST:
            worst = _tell(log.state, log.task)

    def ended(end: TaskEnded) -> None:
        if end.status != "succeeded" or sys.stderr.isatty():
            complain(f"task {end.task} {render.ending(end)}")

    await follow_group(events, put, ended=ended, told=told)
    return worst


def _prefix(task: int, *, err: bool) -> bytes:
    """The number of a task, in a colour of its own where somebody sees it."""
    text = f"{task} | "
    if coloured(err=err):
        text = click.style(text, fg=_COLOURS[task % len(_COLOURS)])
    return text.encode()


def _unstarted(task: Task) -> str:
    if task.status in FINAL:
        return f"task {task.id} was {task.status} before it started: it has no log"
    return f"task {task.id} has not started: dw explain {task.id} tells why"


def _end(task: Task, stream: Stream | None) -> int:
    """Choose the exit code after a log was followed to its end."""
    if task.logs is UNSET:
        return 0
    states = {log.state for name, log in task.logs.items() if stream in (None, name)}
    worst = next((state for state in outcome.LOST if state in states), None)
    return _tell(worst, task.id) if worst else 0


def _tell(state: LogState, task_id: int) -> int:
    if state in _ABOUT:
        complain(_ABOUT[state].format(id=task_id))
    return outcome.LOG_MISSING if state in outcome.LOST else 0
