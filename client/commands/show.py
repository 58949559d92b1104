"""`dw show`."""

from collections.abc import Iterator
from datetime import UTC, datetime

import click
from msgspec import UNSET

from client import render
from client.client import Client
from client.commands.running import console, each, json_option, run, write_json
from client.commands.types import IDS
from client.following import STREAMS
from schema.tasks import Task

_NAMES_WIDTH = 11


@click.command("show", epilog="Example: dw show 17")
@IDS
@json_option
def command(ids: tuple[int, ...], as_json: bool) -> int:
    """Show everything about tasks: settings, times, attempts and logs."""
    if not ids:
        raise click.UsageError("name a task: dw show ID")

    async def main(dw: Client) -> int:
        shown = 0

        async def one(task_id: int) -> None:
            nonlocal shown
            task = await dw.task(task_id)
            if as_json:
                write_json([task])
                return
            if shown:
                click.echo()
            shown += 1
            _write(task)

        return await each(dw, ids, one)

    return run(main)


def _write(task: Task) -> None:
    from rich.text import Text  # noqa: PLC0415 - see `console`

    out = console()
    head = Text(f"task {task.id}  ", style="bold")
    head.append(render.status(task), style=render.style(task))
    out.print(head)
    for name, value in _fields(task):
        line = Text(f"  {name:{_NAMES_WIDTH}}", style="dim")
        # Lines that are too long are not cut and go on at the margin, to be copied whole.
        text = value.replace("\n", "\n" + " " * (_NAMES_WIDTH + 2))
        out.print(line.append(text, style="not dim"), soft_wrap=True)


def _fields(task: Task) -> Iterator[tuple[str, str]]:
    yield from _submitted(task)
    yield from _times(task, datetime.now(UTC))
    yield from _attempts(task)


def _submitted(task: Task) -> Iterator[tuple[str, str]]:
    # A command is shown as it is, over several lines if it has them, but it may not act.
    yield "command", "\n".join(render.one_line(line) for line in task.command.splitlines())
    for name, value in (
        ("name", task.name),
        ("group", task.group),
        ("cwd", task.cwd),
        ("needs", ", ".join(task.needs)),
        ("isolation", task.isolation),
        ("image", task.image),
        ("key", task.key),
        ("message", task.message),
    ):
        if value:
            yield name, render.one_line(value)
    for variable, content in sorted((task.env or {}).items()):
        yield "env", render.one_line(f"{variable}={content}")
    for variable in task.secrets:
        yield "secret", render.one_line(variable)
    if task.timeout is not None:
        yield "timeout", render.duration(task.timeout)
    if task.no_output_timeout is not None:
        yield "no output", f"at most {render.duration(task.no_output_timeout)}"
    if task.exclusive:
        yield "exclusive", "attempts never overlap"
    yield "priority", f"{task.priority} of 9"


def _times(task: Task, now: datetime) -> Iterator[tuple[str, str]]:
    yield "submitted", _when(task.submitted_at, now)
    if task.run_after is not None:
        yield "run after", task.run_after.astimezone().isoformat(sep=" ", timespec="seconds")
    if task.started_at is not None:
        yield "started", _when(task.started_at, now)
    if task.finished_at is not None:
        yield "finished", _when(task.finished_at, now)
    if ran := render.run_time(task, now):
        yield "ran", ran


def _attempts(task: Task) -> Iterator[tuple[str, str]]:
    if task.attempt:
        times = "once" if task.max_attempts == 1 else f"{task.max_attempts} times"
        text = f"{task.attempt}, the command may fail {times}"
        yield "attempt", f"{text}, on {render.one_line(task.agent)}" if task.agent else text
    if task.attempts is not UNSET:
        for earlier in task.attempts:
            yield f"attempt {earlier.attempt}", render.attempt(earlier)
    if task.logs is not UNSET:
        for stream in STREAMS:
            if stream in task.logs:
                yield stream, render.log_line(task.logs[stream])


def _when(then: datetime, now: datetime) -> str:
    local = then.astimezone().isoformat(sep=" ", timespec="seconds")
    return f"{local} ({render.age(then, now)} ago)"
