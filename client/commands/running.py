"""What all commands share: one client, errors as exit codes, output for people and programs."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from http import HTTPStatus
from typing import IO, TYPE_CHECKING, Any, Literal, TypeVar

import click
import msgspec

from client import settings
from client.client import Client
from client.commands.near import task_hints
from client.errors import (
    DeniedError,
    DwError,
    NotFoundError,
    RefusedError,
    UnreachableError,
    UnreadableError,
)
from client.transport import Patience

if TYPE_CHECKING:
    from rich.console import Console

C = TypeVar("C", bound=Callable[..., Any])

PIPE_CLOSED = 141  # 128 + SIGPIPE, as a shell reports it
NARROW = 60
"""Columns below which tables leave out what matters less: half of a word tells nothing."""
_PIPE_WIDTH = 1000  # columns where nobody's screen ends: programs cut for themselves

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")


class Failure(click.ClickException):
    """An error of the client, as people read it."""

    def __init__(self, error: DwError) -> None:
        hint = _hint(error, os.environ)
        super().__init__(f"{error}: {hint}" if hint else str(error))
        self.exit_code = error.exit_code  # type: ignore[misc] # click means it to be set

    def show(self, file: IO[Any] | None = None) -> None:
        """Write it on stderr."""
        del file
        complain(self.message)


def _hint(error: DwError, environ: Mapping[str, str]) -> str | None:
    """Tell what to do about it."""
    if isinstance(error, UnreachableError):
        there = " there? API_URL names the server"
        default = "? API_URL is not set, so this is the default"
        return f"is `just serve` running{there if environ.get('API_URL') else default}"
    if isinstance(error, UnreadableError):
        return "is API_URL right?"
    if isinstance(error, DeniedError):
        return _denied(error, given=bool(environ.get("TOKEN", "").strip()))
    return None


def _denied(error: DeniedError, *, given: bool) -> str:
    if error.problem.status == HTTPStatus.FORBIDDEN:
        return "ask an admin for a token of that role, and set TOKEN"
    if given:
        return "is TOKEN valid there? It may be revoked, or belong to another server"
    return "TOKEN is not set; an admin makes one: dw token new --role submit --name NAME"


def run(
    main: Callable[[Client], Awaitable[int]],
    *,
    notice: Callable[[DwError, float], None] | None = None,
    patience: Patience | None = None,
) -> int:
    """Run a command's body with a client; returns its exit code, or raises Failure."""
    where = settings.load(os.environ)

    async def inside() -> int:
        async with Client(
            where.url, where.token, ca_file=where.ca_file, patience=patience,
            notice=notice or tell_outage,
        ) as dw:  # fmt: skip
            return await main(dw)

    try:
        code = asyncio.run(inside())
        sys.stdout.flush()
    except DwError as error:
        raise Failure(error) from error
    except BrokenPipeError:
        # The reader has seen enough: say nothing, neither now nor when Python flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    return code


def complain(text: str) -> None:
    """One line on stderr."""
    click.echo(f"dw: {text}", err=True)


def write(data: bytes, *, err: bool = False) -> None:
    """Bytes as they are, at once."""
    out = (sys.stderr if err else sys.stdout).buffer
    out.write(data)
    out.flush()


def write_json(items: Iterable[object]) -> None:
    """One JSON object a line."""
    for item in items:
        write(msgspec.json.encode(item) + b"\n")


def coloured(*, err: bool = False) -> bool:
    """Tell whether colours are wanted there: `--color`, else NO_COLOR, else on terminals."""
    context = click.get_current_context(silent=True)
    if context is not None and context.color is not None:
        return context.color
    return (sys.stderr if err else sys.stdout).isatty() and not os.environ.get("NO_COLOR")


def fullscreen() -> bool:
    """Tell whether stdout is a terminal that can be drawn on."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in {"dumb", "unknown"}


def console(*, stderr: bool = False) -> "Console":
    """Where tables go. Not cut to any width when it is no terminal."""
    from rich.console import Console  # noqa: PLC0415 - 50 ms that --json and logs do not need

    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    wide = not terminal and "COLUMNS" not in os.environ
    colours: Literal["auto", "standard"] | None = "auto" if terminal else "standard"
    wanted = coloured(err=stderr)
    return Console(
        stderr=stderr,
        highlight=False,
        emoji=False,
        width=_PIPE_WIDTH if wide else None,
        color_system=colours if wanted else None,
        no_color=not wanted,  # or the environment's NO_COLOR would win over --color
    )


async def each(dw: Client, ids: Iterable[int], act: Callable[[int], Awaitable[None]]) -> int:
    """Act on every task; a refusal is told and the rest go on. Returns the exit code."""
    code = 0
    for task_id in ids:
        try:
            async with task_hints(dw, task_id):
                await act(task_id)
        except NotFoundError as error:
            complain(str(error))
            code = error.exit_code
        except DeniedError:
            raise
        except RefusedError as error:
            complain(f"task {task_id}: {error}")
            code = error.exit_code
    return code


def tell_outage(error: DwError, seconds: float) -> None:
    """Say that it is tried again, and for how long."""
    complain(f"{error}; retrying for {seconds:.0f} s")
