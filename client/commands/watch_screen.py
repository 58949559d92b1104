"""`dw watch` on a terminal."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

from rich.text import Text

from client import stuck
from client.client import Client
from client.commands import watch_view
from client.commands.fullscreen import FullScreen, LeftError
from client.commands.running import console, tell_outage
from client.commands.watch_lines import name_tasks
from client.errors import DwError, first_of
from client.live import LiveEvent
from client.stuck import Stuck
from client.watching import Board

_NAMES_S = 0.3
_QUIT = 130  # as after Ctrl-C: the group has not ended


class Watcher:
    """Shows a group, and that the server does not answer."""

    def __init__(self) -> None:
        self._board: Board | None = None
        self._screen: FullScreen | None = None

    def away(self, error: DwError, seconds: float) -> None:
        """Hear of an outage."""
        if self._board is None or self._screen is None:
            tell_outage(error, seconds)
        else:
            self._board.away = str(error)
            self._screen.changed()

    async def show(self, dw: Client, board: Board, events: AsyncIterator[LiveEvent]) -> int | None:
        """Show it until all has ended, or somebody leaves: then the exit code."""
        out = console()
        self._board = board

        def hear(now: tuple[Stuck, ...]) -> None:
            board.stuck = now
            screen.changed()

        def draw(width: int, height: int) -> list[Text]:
            return watch_view.board(board, datetime.now(UTC), width, height)

        with FullScreen(out, draw, _QUIT) as screen:
            self._screen = screen
            try:
                async with asyncio.TaskGroup() as group, stuck.told(dw, hear, group=board.name):
                    helpers = [
                        group.create_task(screen.run()),
                        group.create_task(_name(dw, board, lambda: out.height)),
                    ]
                    async for _ in events:
                        screen.changed()
                    for helper in helpers:
                        helper.cancel()
            except BaseExceptionGroup as error:
                first = first_of(error)
                if isinstance(first, LeftError):
                    return first.code
                raise first from None
            finally:
                self._screen = None
        return None


async def _name(dw: Client, board: Board, height: Callable[[], int]) -> None:
    """Ask for the names of what is on the screen, until cancelled."""
    while True:
        await name_tasks(dw, board, watch_view.named(board, height()))
        await asyncio.sleep(_NAMES_S)
