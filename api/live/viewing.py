"""One viewer of one task: its events, at the viewer's own pace."""

import asyncio
import random
from collections.abc import AsyncGenerator

from api.database import AWAY
from api.live import events
from api.live.service import Live
from api.live.steps import Streams
from api.live.tails import Tail
from api.positions import Position
from schema.logs import AttemptBegun, TaskNow
from schema.tasks import FINAL

KEEP_ALIVE_S = 15.0
AFTER_ERROR_S = 1.0
_LONGEST_S = 3600.0


def longest_s() -> float:
    """How long a stream lasts: then its viewer comes back with what lets him in, if it still does.

    A browser's cookie ends without a word; and who came together need not come back together.
    """
    return _LONGEST_S * random.uniform(0.9, 1)  # noqa: S311 - jitter


def all_told(tail: Tail, position: Position) -> bool:
    """Whether there is nothing more to tell behind a position, unless the task is run again."""
    seen = tail.seen
    ended = seen is not None and seen.status in FINAL and position.attempt == seen.attempt
    return ended and position.told == "end"


async def first_position(
    live: Live, tail: Tail, lines: int | None, streams: Streams
) -> tuple[Position, AttemptBegun | None]:
    """Where somebody begins who brings no position, and what he is told before all output."""
    attempt = tail.seen.attempt if tail.seen else 0
    if not attempt or lines is None:
        return Position(max(0, attempt - 1), told="log" if attempt > 1 else ""), None
    position = await live.position(tail, attempt, lines, streams)
    log = await tail.log(attempt)
    return position, log.begun if log else None


async def view(
    live: Live, tail: Tail, position: Position, begun: AttemptBegun | None, streams: Streams
) -> AsyncGenerator[bytes, None]:
    """Events of a task that is watched, from a position on, until it has ended."""
    loop = asyncio.get_running_loop()
    until = loop.time() + longest_s()
    first = b"" if begun is None else events.event("attempt", begun, position)
    yield events.HELLO
    told: TaskNow | None = None
    while loop.time() < until:
        rung = tail.bell.rung
        if tail.now != told:
            told = tail.now
            yield events.event("status", told) + first
            first = b""
        try:
            step = await live.next_step(tail, position, streams)
        except AWAY:  # the loop that looks at all tasks says so, once for all viewers
            await asyncio.sleep(AFTER_ERROR_S)
            yield events.KEEP_ALIVE
            continue
        if step is not None:
            position = step.position
            yield step.event()
            if step.name == "end":
                return
        elif not await tail.bell.wait(rung, KEEP_ALIVE_S):
            yield events.KEEP_ALIVE
