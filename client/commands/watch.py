"""`dw watch`."""

import asyncio
import shlex
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from http import HTTPStatus

import click

from client import outcome, render, stuck
from client.client import Client
from client.commands.group import last_lines, look, tell
from client.commands.near import group_hints
from client.commands.running import complain, fullscreen, json_option, run
from client.commands.types import GROUP
from client.commands.watch_lines import write_events, write_lines
from client.errors import RefusedError
from client.live import LiveEvent
from client.looking import looked_at
from client.transport import Patience
from client.watching import Board, failure_of

_BEFORE = 100  # failures from before the watching
_WITH_LINES = 10


@click.command("watch", epilog="Example: dw watch nightly")
@GROUP
@json_option
def command(group: str, as_json: bool) -> int:
    """Follow a group: progress, last lines, failures.

    Ends when all of its tasks have ended, with the same exit codes as `dw wait`. Without a
    terminal: one line per change. With --json: all events except task output.
    """
    if as_json:
        return run(lambda dw: _events_here(dw, group))
    if not fullscreen():
        return run(lambda dw: _lines_here(dw, group))

    from client.commands.watch_screen import Watcher  # noqa: PLC0415 - imports rich

    watcher = Watcher()
    # Somebody sits before it who can leave: an outage may take as long as it likes.
    patience = Patience(later_s=float("inf"))

    async def main(dw: Client) -> int:
        board = await _board(dw, group)
        code = None
        try:
            async with aclosing(_events_of(dw, board)) as events:
                code = await watcher.show(dw, board, events)
        except asyncio.CancelledError:
            _goes_on(board)
            raise
        if code is not None:
            _goes_on(board)
            return code
        return await _end(dw, group)

    return run(main, notice=watcher.away, patience=patience)


async def _events_here(dw: Client, name: str) -> int:
    async with group_hints(dw, name):
        await dw.group(name)
    async with (
        stuck.told(dw, stuck.OnceEach(complain), group=name),
        aclosing(_events(dw, name)) as events,
    ):
        await write_events(events, output=False)
    return outcome.of_group(await dw.group(name))


async def _lines_here(dw: Client, name: str) -> int:
    board = await _board(dw, name)
    try:
        async with aclosing(_events_of(dw, board)) as events:
            await write_lines(dw, board, events)
    except asyncio.CancelledError:
        _goes_on(board)
        raise
    return await _end(dw, name)


async def _end(dw: Client, name: str) -> int:
    """What stays on the terminal."""
    report = await look(dw, name)
    tell(report)
    if report.failures:
        again = f"run them again with: dw retry --group {shlex.quote(name)}"
        if not report.group.counts.get("failed"):
            again += " --cancelled"
        ran = next((task.id for task in report.failures if task.attempt), None)
        complain(f"read a log with: dw logs {ran}; {again}" if ran else again)
    return outcome.of_group(report.group)


async def _board(dw: Client, name: str) -> Board:
    """Ask for the group; NotFoundError."""
    async with group_hints(dw, name):
        return Board(await dw.group(name), datetime.now(UTC))


async def _failed_before(dw: Client, board: Board) -> None:
    """Ask for what had failed before the events began."""
    page = await dw.tasks(group=board.name, status=("failed", "cancelled"), limit=_BEFORE)
    failed = [task.id for task in page.tasks if task.status == "failed"]
    lines = await last_lines(dw, failed[:_WITH_LINES])
    for task in reversed(page.tasks):
        failure = failure_of(task, lines.get(task.id, ()))
        if failure is not None:
            board.had_failed(failure, render.title(task))


async def _events_of(dw: Client, board: Board) -> AsyncGenerator[LiveEvent, None]:
    """Events that the board has taken."""
    begun = False
    async with aclosing(_events(dw, board.name)) as events:
        async for event in events:
            board.take(event)
            if not begun:
                # Not sooner: what failed in between would be told by neither.
                await _failed_before(dw, board)
                begun = True
            yield event


async def _events(dw: Client, name: str) -> AsyncGenerator[LiveEvent, None]:
    """From now on; of a group that is too large to be followed, what looks at it find."""
    try:
        async with aclosing(dw.live_group(name, tail=1)) as events:
            async for event in events:
                yield event
    except RefusedError as error:
        if error.problem.status != HTTPStatus.UNPROCESSABLE_ENTITY:
            raise
        async with aclosing(looked_at(dw, name)) as events:
            async for event in events:
                yield event


def _goes_on(board: Board) -> None:
    """Somebody left: the tasks, and how to come back, must not be lost with the screen."""
    if sys.stderr.isatty():
        click.echo(err=True)  # the terminal wrote ^C
    name = shlex.quote(board.name)
    bad = board.counts.get("failed", 0)
    complain(
        f"{board.ended:,} of {board.total:,} have ended, {bad:,} failed; the rest keep running: "
        f"dw watch {name}, dw cancel --group {name}"
    )
