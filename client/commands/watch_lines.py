"""`dw watch` where there is no terminal: a line for each change, or an event."""

import asyncio
from collections.abc import AsyncIterator, Collection
from datetime import datetime

import click
import msgspec

from client import outcome, render
from client.client import Client
from client.commands.running import write
from client.errors import first_of
from client.live import LiveEvent
from client.waiting import IDS_PER_REQUEST
from client.watching import Board, Failure
from schema.logs import AttemptBegun, GroupNow, LogOver, Output, TaskEnded, TaskNow

_COLLECT_S = 0.1  # names are asked for together
_NAMES: dict[type, str] = {
    GroupNow: "group",
    TaskNow: "status",
    AttemptBegun: "attempt",
    LogOver: "log",
    TaskEnded: "end",
    Output: "output",
}
_encode = msgspec.json.Encoder().encode


async def write_events(events: AsyncIterator[LiveEvent], *, output: bool) -> int:
    """One JSON object a line, with the name of the event in `event`; returns an exit code.

    `output`: also what tasks write.
    """
    code = 0
    async for event in events:
        if isinstance(event, LogOver) and event.state in outcome.LOST:
            code = outcome.LOG_MISSING
        if output or not isinstance(event, Output):
            write(_encode({"event": _NAMES[type(event)]} | msgspec.to_builtins(event)) + b"\n")
    return code


async def name_tasks(dw: Client, board: Board, ids: Collection[int]) -> None:
    """Ask for the names of those that have none yet."""
    missing = [task for task in ids if task not in board.titles]
    for start in range(0, len(missing), IDS_PER_REQUEST):
        some = missing[start : start + IDS_PER_REQUEST]
        board.titles |= dict.fromkeys(some, "")
        for task in (await dw.tasks(ids=some)).tasks:
            board.titles[task.id] = render.title(task)


async def write_lines(dw: Client, board: Board, events: AsyncIterator[LiveEvent]) -> None:
    """A line for each task that starts or ends; below one that failed, its last lines."""
    click.echo(
        f"{_clock()}  group {render.one_line(board.name)}: {board.total:,} tasks, "
        f"{board.ended:,} ended"
    )
    writer = _Writer(dw, board)
    try:
        async with asyncio.TaskGroup() as group:
            writing = group.create_task(writer.run())
            async for event in events:
                writer.take(event)
            writing.cancel()
    except BaseExceptionGroup as error:
        raise first_of(error) from None
    await writer.flush()


class _Writer:
    """Keeps lines until their tasks' names are known."""

    def __init__(self, dw: Client, board: Board) -> None:
        self._dw = dw
        self._board = board
        self._told: dict[int, int] = {}
        self._lines: list[tuple[str, int, str, Failure | None]] = []
        self._some = asyncio.Event()

    def take(self, event: LiveEvent) -> None:
        """Tell of it soon."""
        if isinstance(event, TaskNow) and event.status == "in_progress":
            if self._told.get(event.task) != event.attempt:
                self._told[event.task] = event.attempt
                again = f", attempt {event.attempt}" if event.attempt > 1 else ""
                where = render.one_line(event.agent or "an agent")
                self._add(event.task, f"runs on {where}{again}", None)
        elif isinstance(event, TaskEnded):
            self._told.pop(event.task, None)
            took = "" if event.run_s is None else f" after {render.duration(event.run_s)}"
            failure = self._board.failures.get(event.task)
            self._add(event.task, f"{render.ending(event)}{took}", failure)

    def _add(self, task: int, what: str, failure: Failure | None) -> None:
        self._lines.append((_clock(), task, what, failure))
        self._some.set()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._some.wait()
            self._some.clear()
            await self.flush()
            await asyncio.sleep(_COLLECT_S)

    async def flush(self) -> None:
        """Write what there is."""
        lines = list(self._lines)
        await name_tasks(self._dw, self._board, {task for _, task, _, _ in lines})
        del self._lines[: len(lines)]
        for at, task, what, failure in lines:
            click.echo(f"{at}  task {task} {self._board.titles.get(task, '')}: {what}")
            if failure is not None and failure.message:
                click.echo(f"          {render.one_line(failure.message)}")
            for line in failure.lines if failure else ():
                click.echo(f"          | {render.one_line(click.unstyle(line))}")


def _clock() -> str:
    return f"{datetime.now().astimezone():%H:%M:%S}"
