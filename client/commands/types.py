"""Kinds of values on the command line."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

import click

from client.commands.completing import agent_names, group_names, task_ids
from client.submissions import BadInputError, moment, seconds

_MOST_ID = 2**63 - 1

F = TypeVar("F", bound=Callable[..., Any])


class _Duration(click.ParamType[float]):
    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            return seconds(str(value))
        except BadInputError as error:
            self.fail(str(error), param, ctx)


class _Moment(click.ParamType[datetime]):
    name = "time"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        try:
            return moment(str(value), datetime.now().astimezone())
        except BadInputError as error:
            self.fail(str(error), param, ctx)


class _TaskId(click.ParamType[int]):
    name = "id"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        text = str(value)
        if not text.isascii() or not text.isdecimal() or not 0 < int(text) <= _MOST_ID:
            group = "dw group NAME"
            if ctx is not None and any(each.name == "group" for each in ctx.command.params):
                group = f"{ctx.command_path} --group NAME"
            hint = f"`dw ls` lists them (if it is a group: {group})"
            self.fail(f"{text!r} is not a task's number: {hint}", param, ctx)
        return int(text)


DURATION = _Duration()
MOMENT = _Moment()
TASK_ID = _TaskId()

IDS = click.argument("ids", metavar="ID...", nargs=-1, type=TASK_ID, shell_complete=task_ids)
ID = click.argument(
    "task_id", metavar="[ID]", type=TASK_ID, required=False, shell_complete=task_ids
)
GROUP = click.argument("group", metavar="GROUP", shell_complete=group_names)
AGENT = click.argument("name", metavar="NAME", shell_complete=agent_names)


def group_option(text: str) -> Callable[[F], F]:
    """The option `--group`, with a sentence that tells what it selects."""
    return click.option("--group", "-g", metavar="NAME", help=text, shell_complete=group_names)
