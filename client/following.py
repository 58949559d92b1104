"""Following a task's logs while it runs, until all was told."""

from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

from client.live import data_of
from schema.logs import AttemptBegun, Output, TaskNow
from schema.tasks import Stream, Task

if TYPE_CHECKING:
    from client.client import Client

STREAMS: tuple[Stream, ...] = ("stdout", "stderr")

Write = Callable[[Stream, bytes], None]


async def follow(
    dw: "Client",
    task_id: int,
    write: Write,
    *,
    streams: Sequence[Stream] = STREAMS,
    tail: int | None = None,
    changed: Callable[[Task], None] | None = None,
) -> Task:
    """Write what the task writes, as it arrives; returns the task when it is final and all is told.

    `changed` hears of the task before its first byte and whenever another attempt begins.
    """
    stream = streams[0] if len(streams) == 1 else None
    heard = False
    async with aclosing(dw.live(task_id, stream=stream, tail=tail)) as events:
        async for event in events:
            waits = isinstance(event, TaskNow) and event.attempt == 0 and not heard
            if changed is not None and (waits or isinstance(event, AttemptBegun)):
                changed(await dw.task(task_id))
            heard = True
            if isinstance(event, Output):
                for piece in event.pieces:
                    write(piece.stream, data_of(piece))
    return await dw.task(task_id)
