"""`dw top`."""

import asyncio
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from client.client import Client
from client.commands.running import console, fullscreen, json_option, run, tell_outage, write_json
from client.commands.types import DURATION
from client.errors import DwError, first_of
from client.transport import Patience

if TYPE_CHECKING:
    from rich.text import Text

    from client.commands.fullscreen import FullScreen
    from client.commands.top_view import Look

_EVERY_S = 2.0
_GENTLE = 5.0
_RATES_S = 1.0  # between the two looks that a rate needs


@click.command("top", epilog="Examples: dw top, dw top --json --every 10s")
@click.option("--every", type=DURATION, metavar="TIME", help="Refresh interval (default: 2s).")
@json_option
def command(every: float | None, as_json: bool) -> int:
    """Show agents, slots, the queue and rates, live.

    Without a terminal, and with --json: once, unless --every is given. Rates are those of the API
    machine that answers.
    """
    if fullscreen() and not as_json:
        top = _Top(every or _EVERY_S)
        patience = Patience(later_s=float("inf"))
        return run(top.show, notice=top.away, patience=patience)

    async def main(dw: Client) -> int:
        source = _Source(dw)
        await source.look()
        await asyncio.sleep(_RATES_S)
        while True:
            look = await source.look()
            if as_json:
                write_json([look])
            else:
                _write(look, dw.url)
            if every is None:
                return 0
            await asyncio.sleep(every)

    return run(main)


def _write(look: "Look", url: str) -> None:
    from client.commands.top_view import lines  # noqa: PLC0415 - imports rich

    out = console()
    for line in lines(look, url, None, out.width, None):
        out.print(line)
    out.print()


class _Source:
    """Asks for all that is shown."""

    def __init__(self, dw: Client) -> None:
        from client.rates import Rates  # noqa: PLC0415 - 20 ms that others do not need

        self._dw = dw
        self._rates = Rates()

    async def look(self) -> "Look":
        """Ask once."""
        from client.commands.top_view import Look  # noqa: PLC0415 - imports rich
        from client.rates import counters  # noqa: PLC0415 - as above

        agents = await self._dw.agents()
        queue = await self._dw.queue()
        self._rates.add(time.monotonic(), counters(await self._dw.metrics()))
        return Look(datetime.now(UTC), queue, tuple(agents), self._rates.per_s)


class _Top:
    """The screen, and that the server does not answer."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._away: str | None = None
        self._look: Look | None = None
        self._screen: FullScreen | None = None

    def away(self, error: DwError, seconds: float) -> None:
        """Hear of an outage."""
        if self._screen is None:
            tell_outage(error, seconds)
        else:
            self._away = str(error)
            self._screen.changed()

    async def show(self, dw: Client) -> int:
        """Show it until somebody leaves; returns the exit code."""
        from client.commands.fullscreen import FullScreen, LeftError  # noqa: PLC0415 - imports rich
        from client.commands.top_view import lines  # noqa: PLC0415 - imports rich

        source = _Source(dw)
        self._look = await source.look()

        def draw(width: int, height: int) -> "list[Text]":
            assert self._look is not None
            return lines(self._look, dw.url, self._away, width, height)

        with FullScreen(console(), draw, 0) as screen:
            self._screen = screen
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(screen.run())
                    took_s = 0.0
                    while True:
                        # A server that has much to count is asked less often.
                        await asyncio.sleep(max(self._every_s, _GENTLE * took_s))
                        began = time.monotonic()
                        self._look = await source.look()
                        took_s = time.monotonic() - began
                        self._away = None
                        screen.changed()
            except BaseExceptionGroup as error:
                first = first_of(error)
                if isinstance(first, LeftError):
                    return first.code
                raise first from None
            finally:
                self._screen = None
