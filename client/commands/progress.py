"""The progress bar of a wait. Apart, because rich's progress takes 100 ms to import."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from client import waiting


@contextmanager
def bar(console: Console) -> Iterator[Callable[[waiting.Progress], None]]:
    """Draw every look that is handed to the function; leaves nothing behind."""
    columns = (
        BarColumn(bar_width=None, complete_style="green", finished_style="green"),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, refresh_per_second=5) as progress:
        line = progress.add_task("", total=None)

        def seen(now: waiting.Progress) -> None:
            parts = [] if now.running is None else [f"{now.running:,} running"]
            if now.failed:
                parts.append(f"[red]{now.failed:,} failed[/red]")
            if now.infrastructure:
                parts.append(
                    f"[magenta]{now.infrastructure:,} of them because of machines[/magenta]"
                )
            if now.cancelled:
                parts.append(f"[yellow]{now.cancelled:,} cancelled[/yellow]")
            progress.update(
                line, total=now.total, completed=now.ended, description=", ".join(parts)
            )

        yield seen
