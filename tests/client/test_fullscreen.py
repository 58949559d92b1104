"""The full screen by itself: how often it draws."""

import asyncio
import io
from contextlib import suppress

from rich.console import Console
from rich.text import Text

from client.commands.fullscreen import FullScreen


async def test_it_draws_five_times_a_second_at_most() -> None:
    """However fast things change: nobody reads more, and drawing costs."""
    drawn = 0

    def draw(width: int, height: int) -> list[Text]:
        nonlocal drawn
        drawn += 1
        return [Text("x" * width)] * height

    console = Console(file=io.StringIO(), force_terminal=True, width=80, height=24)
    with FullScreen(console, draw, 0) as screen:

        async def change() -> None:
            while True:
                screen.changed()
                await asyncio.sleep(0.001)

        with suppress(TimeoutError):
            async with asyncio.timeout(1.05), asyncio.TaskGroup() as group:
                group.create_task(screen.run())
                group.create_task(change())
    assert 1 < drawn <= 6
