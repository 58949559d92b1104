"""`dw watch` where there is no terminal: a line for each change, or an event."""

import asyncio
from collections.abc import AsyncIterator, Collection
from datetime import datetime
from typing import NamedTuple

import click
import msgspec

from client import outcome, render, stuck
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
    tasks = "1 task" if board.total == 1 else f"{board.total:,} tasks"
    click.echo(f"{_clock()}  group {render.one_line(board.name)}: {tasks}, {board.ended:,} ended")
    writer = _Writer(dw, board)
    try:
        tell = stuck.OnceEach(lambda text: click.echo(f"{_clock()}  {text}"))
        async with asyncio.TaskGroup() as group, stuck.told(dw, tell, group=board.name):
            writing = group.create_task(writer.run())
            async for event in events:
                writer.take(event)
            writing.cancel()
    except BaseExceptionGroup as error:
        raise first_of(error) from None
    await writer.flush()


class _Line(NamedTuple):
    at: str
    task: int
    attempt: int
    what: str
    """Empty: how the attempt ended is to be asked for, and the task is not over."""
    failure: Failure | None


class _Writer:
    """Keeps lines until their tasks' names are known."""

    def __init__(self, dw: Client, board: Board) -> None:
        self._dw = dw
        self._board = board
        self._told: dict[int, int] = {}
        self._lines: list[_Line] = []
        self._some = asyncio.Event()

    def take(self, event: LiveEvent) -> None:
        """Tell of it soon."""
        if isinstance(event, TaskNow):
            self._status(event)
        elif isinstance(event, TaskEnded):
            self._told.pop(event.task, None)
            took = "" if event.run_s is None else f" after {render.duration(event.run_s)}"
            failure = self._board.failures.get(event.task)
            self._add(event.task, event.attempt, f"{render.ending(event)}{took}", failure)

    def _status(self, now: TaskNow) -> None:
        ran = self._told.get(now.task)
        if ran is not None and (now.attempt > ran or now.status in {"pending", "scheduled"}):
            del self._told[now.task]
            self._add(now.task, ran, "")
        if now.status == "in_progress" and self._told.get(now.task) is None:
            self._told[now.task] = now.attempt
            again = f", attempt {now.attempt}" if now.attempt > 1 else ""
            where = render.one_line(now.agent or "an agent")
            self._add(now.task, now.attempt, f"runs on {where}{again}")

    def _add(self, task: int, attempt: int, what: str, failure: Failure | None = None) -> None:
        self._lines.append(_Line(_clock(), task, attempt, what, failure))
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
        await name_tasks(self._dw, self._board, {line.task for line in lines})
        whats = [line.what or await self._superseded(line.task, line.attempt) for line in lines]
        del self._lines[: len(lines)]
        for (at, task, _, _, failure), what in zip(lines, whats, strict=True):
            click.echo(f"{at}  task {task} {self._board.titles.get(task, '')}: {what}")
            if failure is not None and failure.message:
                click.echo(f"          {render.one_line(failure.message)}")
            for text in failure.lines if failure else ():
                click.echo(f"          | {render.one_line(click.unstyle(text))}")

    async def _superseded(self, task: int, attempt: int) -> str:
        """How an attempt ended that is not the last one."""
        earlier = (await self._dw.task(task)).attempts or ()
        ended = "".join(f", {render.attempt(one)}" for one in earlier if one.attempt == attempt)
        return f"attempt {attempt} is over{ended}; the task runs again"


def _clock() -> str:
    return f"{datetime.now().astimezone():%H:%M:%S}"
