"""`dw submit`."""

import asyncio
import os
import shlex
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from secrets import token_hex
from typing import IO, Any

import click
import msgspec

from client import outcome, render
from client.client import Client
from client.commands.logs import follow_here
from client.commands.running import complain, json_option, run, write_json
from client.commands.types import DURATION, MOMENT, group_option
from client.commands.wait import wait_here
from client.submissions import (
    BadInputError,
    command_line,
    from_command,
    from_lines,
    numbered_keys,
    secret_variables,
    variables,
)
from schema.tasks import ISOLATIONS, Submission, Submitted

_PIECES = 8  # of a list of ids


_EPILOG = """\b
Examples:
  dw submit --follow --needs os=android-15 -- ./run-ui-tests
  dw submit --file tests.txt --group nightly --timeout 10m --wait
"""


@click.command("submit", context_settings={"allow_interspersed_args": False}, epilog=_EPILOG)
@click.argument("words", metavar="[--] COMMAND...", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--file",
    "-F",
    "source",
    type=click.File(encoding="utf-8-sig"),
    metavar="FILE|-",
    help="One task per line: a shell line, or a JSON object that starts with {. "
    "Blank lines and # comments are skipped; other options are defaults.",
)
@click.option("--name", help="Shown instead of the command.")
@group_option("Name of the test run. Tasks of a file get a generated one by default.")
@click.option(
    "--env",
    "-e",
    multiple=True,
    metavar="K=V",
    help="Environment variable; K alone takes the value from your environment. Repeatable.",
)
@click.option(
    "--secret",
    "secrets",
    multiple=True,
    metavar="K[=@FILE|=-]",
    help="Hidden variable; value from your environment, a file or stdin. Repeatable.",
)
@click.option("--cwd", metavar="FOLDER", help="Working folder on the agent's machine.")
@click.option(
    "--needs",
    multiple=True,
    metavar="LABEL",
    help="Run only on agents with this label. Repeatable, or a comma-separated list.",
)
@click.option(
    "--isolation",
    type=click.Choice(ISOLATIONS),
    help="Minimum isolation from the agent's machine.",
)
@click.option("--image", metavar="IMAGE", help="Image of the container to run in.")
@click.option(
    "--timeout", type=DURATION, metavar="TIME", help="Limit for one attempt: 90, 30s, 5m, 2h."
)
@click.option(
    "--no-output-timeout",
    type=DURATION,
    metavar="TIME",
    help="End an attempt that writes nothing for this long.",
)
@click.option(
    "--priority", type=click.IntRange(0, 9), metavar="N", help="9 runs first (default: 5)."
)
@click.option(
    "--max-attempts",
    type=click.IntRange(1, 100),
    metavar="N",
    help="Run up to N times while it fails (default: 1).",
)
@click.option("--exclusive", is_flag=True, help="Attempts of this task never overlap.")
@click.option(
    "--run-after", type=MOMENT, metavar="TIME", help="Not before: 2026-12-24T18:00+01:00, or 10m."
)
@click.option("--key", help="Submitting the same key again returns the same task.")
@click.option(
    "--wait",
    "-w",
    "waiting",
    is_flag=True,
    help="Wait for all to end; the exit code is the outcome (see `dw --help`).",
)
@click.option(
    "--follow",
    "following",
    is_flag=True,
    help="Print its log as it grows, and exit like the command.",
)
@json_option
def command(
    words: tuple[str, ...],
    source: IO[str] | None,
    key: str | None,
    waiting: bool,
    following: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Submit a shell command, or a file of them.

    A single word is a shell line: dw submit 'make test | tail -n 5'. Several words are quoted,
    so that each stays one word: dw submit -- grep -r 'two words' src.

    Options come before the command.
    """
    if bool(words) == bool(source):
        raise click.UsageError("give either a command or --file: dw submit -- make test")
    typed = sum(word.endswith("=-") for word in options["secrets"])
    if typed + (source is not None and source.fileno() == sys.stdin.fileno()) > 1:
        raise click.UsageError("stdin can be read only once: for --file -, or for one secret")
    try:
        tasks = _tasks(words, source, key, _defaults(options))
    except BadInputError as error:
        raise click.UsageError(str(error)) from error
    if following and len(tasks) != 1:
        raise click.UsageError("--follow takes one task: use --wait, then dw logs ID")
    if following and as_json:
        raise click.UsageError("--follow prints the log: use it without --json")

    return run(lambda dw: _hand_over(dw, tasks, waiting, following, as_json))


async def _hand_over(
    dw: Client, tasks: Sequence[Submission], waiting: bool, following: bool, as_json: bool
) -> int:
    done = await dw.submit(tasks)
    ids = [one.id for one in done]
    said = _said(tasks, done)
    if not as_json:
        click.echo(said, err=following)  # with --follow, stdout is the task's
    elif not waiting:
        write_json(done)
    if not waiting and not following:
        return 0
    groups = {task.group for task in tasks}
    group = groups.pop() if len(groups) == 1 and len(ids) > 1 else None
    try:
        if following:
            return await _follow(dw, ids[0])
        return await wait_here(dw, ids, group, None, as_json)
    except asyncio.CancelledError:
        if sys.stderr.isatty():
            click.echo(err=True)  # the terminal wrote ^C
        name = f"--group {shlex.quote(group)}" if group else " ".join(map(str, ids[:_PIECES]))
        complain(f"{said} will keep running: dw wait {name}, dw cancel {name}")
        raise


async def _follow(dw: Client, task_id: int) -> int:
    task = await follow_here(dw, task_id)
    if task.status != "succeeded":
        complain(f"task {task.id} {render.status(task)}")
    return outcome.exit_like(task)


def _defaults(options: dict[str, Any]) -> dict[str, Any]:
    """Choose the options that were given, as fields of a submission."""
    given = {name: value for name, value in options.items() if value not in (None, (), False)}
    if "env" in given:
        given["env"] = variables(given["env"], os.environ)
    if "secrets" in given:
        given["secrets"] = secret_variables(given["secrets"], os.environ, _typed)
    if "needs" in given:
        labels = (label.strip() for word in given["needs"] for label in word.split(","))
        given["needs"] = tuple(label for label in labels if label)
    return given


def _typed() -> str:
    """All of stdin, or a line typed unseen."""
    if sys.stdin.isatty():
        return str(click.prompt("secret", hide_input=True, err=True))
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError:
        raise BadInputError("--secret: stdin is not UTF-8 text") from None


def _tasks(
    words: Sequence[str], source: Iterable[str] | None, key: str | None, defaults: dict[str, Any]
) -> list[Submission]:
    """All submissions; those of a file that name no group share one, to be found again."""
    if source is None:
        return numbered_keys([from_command(command_line(words), defaults)], key)
    try:
        tasks = numbered_keys(list(from_lines(source, defaults)), key)
    except UnicodeDecodeError as error:
        raise BadInputError(f"the file is not UTF-8 text: {error}") from error
    if not tasks:
        raise BadInputError("the file has no tasks")
    if len(tasks) > 1 and all(task.group is None for task in tasks):
        # With a key, the same name each time: the same key with another body is refused.
        group = key or f"dw-{datetime.now(UTC):%Y%m%d-%H%M%S}-{token_hex(2)}"
        tasks = [msgspec.structs.replace(task, group=group) for task in tasks]
    return tasks


def _said(tasks: Sequence[Submission], done: Sequence[Submitted]) -> str:
    """As `task 7`, or `tasks 1-1000 in group nightly (3 were there already)`."""
    ids = [one.id for one in done]
    text = f"task {ids[0]}" if len(ids) == 1 else f"tasks {ranges(ids)}"
    groups = {task.group for task in tasks}
    if len(ids) > 1 and len(groups) == 1:
        text += f" in group {groups.pop()}"
    old = sum(not one.created for one in done)
    if not old:
        return text
    if old == len(ids):
        return f"{text} ({'was' if old == 1 else 'all were'} there already)"
    return f"{text} ({old:,} {'was' if old == 1 else 'were'} there already)"


def ranges(ids: Iterable[int]) -> str:
    """Ids as `1-3, 7, 9-12`; the middle is left out where there are many pieces."""
    pieces: list[list[int]] = []
    for one in sorted(set(ids)):
        if pieces and one == pieces[-1][1] + 1:
            pieces[-1][1] = one
        else:
            pieces.append([one, one])
    texts = [str(a) if a == b else f"{a}-{b}" for a, b in pieces]
    if len(texts) > _PIECES:
        texts[_PIECES // 2 : -_PIECES // 2] = ["..."]
    return ", ".join(texts)
