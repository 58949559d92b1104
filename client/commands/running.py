"""What all commands share: one client, errors as exit codes, output for people and programs."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from client import settings
from client.client import Client
from client.errors import (
    DeniedError,
    DwError,
    NotFoundError,
    RefusedError,
    UnreachableError,
    UnreadableError,
)

if TYPE_CHECKING:
    from rich.console import Console

C = TypeVar("C", bound=Callable[..., Any])

PIPE_CLOSED = 141  # 128 + SIGPIPE, as a shell reports it
_PIPE_WIDTH = 1000  # columns where nobody's screen ends: programs cut for themselves

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")

HINTS: tuple[tuple[type[DwError], str], ...] = (
    (UnreachableError, "is `just serve` running? Set API_URL for another server."),
    (UnreadableError, "is API_URL right?"),
    (DeniedError, "is TOKEN set, in force, and of that role?"),
)


class Failure(click.ClickException):
    """An error of the client, as people read it."""

    def __init__(self, error: DwError) -> None:
        hint = next((text for kind, text in HINTS if isinstance(error, kind)), None)
        super().__init__(f"{error}: {hint}" if hint else str(error))
        self.exit_code = error.exit_code  # type: ignore[misc] # click means it to be set

    def show(self, file: IO[Any] | None = None) -> None:
        """Write it on stderr."""
        del file
        complain(self.message)


def run(main: Callable[[Client], Awaitable[int]]) -> int:
    """Run a command's body with a client; returns its exit code, or raises Failure."""
    where = settings.load(os.environ)

    async def inside() -> int:
        async with Client(where.url, where.token, ca_file=where.ca_file, notice=_notice) as dw:
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


def console(*, stderr: bool = False) -> "Console":
    """Where tables go. Not cut to any width when it is no terminal."""
    from rich.console import Console  # noqa: PLC0415 - 50 ms that --json and logs do not need

    wide = not (sys.stderr if stderr else sys.stdout).isatty() and "COLUMNS" not in os.environ
    return Console(stderr=stderr, highlight=False, emoji=False, width=_PIPE_WIDTH if wide else None)


async def each(ids: Iterable[int], act: Callable[[int], Awaitable[None]]) -> int:
    """Act on every task; a refusal is told and the rest go on. Returns the exit code."""
    code = 0
    for task_id in ids:
        try:
            await act(task_id)
        except NotFoundError:
            complain(f"task {task_id}: there is no such task")
            code = NotFoundError.exit_code
        except DeniedError:
            raise
        except RefusedError as error:
            complain(f"task {task_id}: {error}")
            code = error.exit_code
    return code


def _notice(error: DwError, seconds: float) -> None:
    complain(f"{error}; trying again for {seconds:.0f} s")


IDS = click.argument("ids", metavar="ID...", nargs=-1, type=click.IntRange(min=1))
