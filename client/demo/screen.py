"""What the demo shows while it runs, and at the end."""

import time
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Protocol, Self

from msgspec import Struct
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from client import render
from schema.tasks import FINAL, Task

_OTHER_LINES = 6  # of the screen, above and below the table


class Checked(Struct, frozen=True):
    """A task that has ended, and what was found."""

    task: Task
    stdout: int
    stderr: int
    how: str
    """What its log was compared with."""
    wrong: tuple[str, ...]


class Screen(Protocol):
    """Shows how far the tasks are."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def show(self, tasks: list[Task]) -> None:
        """Show all of them, by id."""


class Lines:
    """A line for each task that has ended: where there is no terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._told: set[int] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def show(self, tasks: list[Task]) -> None:
        """Tell what is new."""
        for task in tasks:
            if task.status in FINAL and task.id not in self._told:
                self._told.add(task.id)
                at = time.monotonic() - self._began
                self._console.print(
                    f"{at:5.1f} s  task {task.id:<3} {render.title(task):<28} {render.status(task)}"
                )


class Board:
    """A table that is drawn again and again: on a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, transient=True, refresh_per_second=10)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, tasks: list[Task]) -> None:
        """Draw; where the screen is too low, what runs comes before what has ended."""
        room = max(1, self._console.height - _OTHER_LINES)
        shown = sorted(tasks, key=_interest)[:room]
        counts = Counter("ended" if task.status in FINAL else render.status(task) for task in tasks)
        table = _table("task", "status", "ran", right=("ran",))
        table.caption = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
        table.caption_justify = "left"
        now = datetime.now(UTC)
        for task in sorted(shown, key=lambda task: task.id):
            table.add_row(
                str(task.id),
                Text(render.title(task), no_wrap=True, overflow="ellipsis"),
                Text(render.status(task), style=render.style(task)),
                render.run_time(task, now),
            )
        self._live.update(table)


def _interest(task: Task) -> int:
    if task.status in FINAL:
        return 2
    return 0 if task.status == "in_progress" else 1


def results(console: Console, checked: Iterable[Checked]) -> None:
    """One line for each task: how it ended, what it wrote, whether that came back."""
    table = _table(
        "task", "status", "ran", "stdout", "stderr", "log", right=("ran", "stdout", "stderr")
    )
    for one in checked:
        verdict = Text(one.how, style="green")
        if one.wrong:
            verdict = Text("; ".join(one.wrong), style="bold red")
        table.add_row(
            str(one.task.id),
            Text(render.title(one.task), no_wrap=True, overflow="ellipsis"),
            Text(render.status(one.task), style=render.style(one.task)),
            render.run_time(one.task, datetime.now(UTC)),
            render.size(one.stdout),
            render.size(one.stderr),
            verdict,
        )
    console.print(table)


def _table(*names: str, right: tuple[str, ...]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("id", justify="right", no_wrap=True)
    for name in names:
        table.add_column(
            name, justify="right" if name in right else "left", no_wrap=name not in ("task", "log")
        )
    return table
