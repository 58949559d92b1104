"""Following a task's logs while it runs: each stream by its offset, until all is read."""

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from msgspec import UNSET

from client.errors import BrokenOffError
from schema.tasks import FINAL, Stream, StreamLog, Task

if TYPE_CHECKING:
    from client.client import Client

BUSY_LOOK_S = 0.2
IDLE_LOOK_S = 0.5
_BROKEN_MOST = 10  # replies in a row that break off before their first byte
STREAMS: tuple[Stream, ...] = ("stdout", "stderr")

Write = Callable[[Stream, bytes], None]


def advance(offset: int, received: int, missing: Sequence[tuple[int, int]]) -> int:
    """Where the next byte of a stream stands after `received` stored bytes from `offset` on.

    A reply lacks the byte ranges that are missing, so they are stepped over.
    """
    for first, end in sorted(missing):
        if end <= offset:
            continue
        if first <= offset:
            offset = end  # the reading began inside of a hole
            continue
        if offset + received <= first:
            break
        received -= first - offset
        offset = end
    return offset + received


async def follow(
    dw: "Client",
    task_id: int,
    write: Write,
    *,
    streams: Sequence[Stream] = STREAMS,
    changed: Callable[[Task], None] | None = None,
) -> Task:
    """Write what the task writes, as it arrives; returns the task when it is final and all is read.

    `changed` hears of the task before its first byte and whenever another attempt begins: a new
    attempt is followed from its first byte.
    """
    attempt = -1
    offsets: dict[Stream, int] = {}
    look_s = BUSY_LOOK_S
    while True:
        task = await dw.task(task_id)
        if task.attempt != attempt:
            if attempt > 0:
                await _read(dw, task_id, attempt, streams, offsets, None, write)
            attempt, offsets = task.attempt, dict.fromkeys(streams, 0)
            if changed is not None:
                changed(task)
        moved = False
        if attempt > 0:
            moved = await _read(dw, task_id, attempt, streams, offsets, task, write)
        if task.status in FINAL:
            return task
        look_s = BUSY_LOOK_S if moved else min(IDLE_LOOK_S, look_s * 1.2)
        await asyncio.sleep(look_s)


async def _read(
    dw: "Client",
    task_id: int,
    attempt: int,
    streams: Sequence[Stream],
    offsets: dict[Stream, int],
    task: Task | None,
    write: Write,
) -> bool:
    """Write what the streams have beyond their offsets; true if there was something.

    `task` is a fresh look at this attempt, which tells what need not be asked for; null for an
    attempt that is not the newest any more.
    """
    moved = False
    logs = task.logs if task is not None and task.logs is not UNSET else None
    for stream in streams:
        known = logs.get(stream) if logs else None
        if known is not None and _end(known) <= offsets[stream]:
            continue
        failures = 0
        whole = False
        while not whole:
            before = offsets[stream]
            whole = await _read_once(dw, task_id, attempt, stream, offsets, known, write)
            moved = moved or offsets[stream] > before
            failures = 0 if offsets[stream] > before else failures + 1
            if not whole:
                if failures == _BROKEN_MOST:
                    raise BrokenOffError(f"{dw.url}/tasks/{task_id}/logs", 0)
                await asyncio.sleep(BUSY_LOOK_S)
    return moved


async def _read_once(
    dw: "Client",
    task_id: int,
    attempt: int,
    stream: Stream,
    offsets: dict[Stream, int],
    known: StreamLog | None,
    write: Write,
) -> bool:
    """Write what one stream has beyond its offset; false if the connection broke off inside."""
    received = 0
    whole = True
    async with dw.logs(task_id, stream=stream, attempt=attempt, offset=offsets[stream]) as log:
        try:
            async for piece in log:
                received += len(piece)
                write(stream, piece)
        except BrokenOffError:
            whole = False
    # The reply's own word: since `known` was looked up, a range may have come or been given up.
    # It names the first ranges only.
    missing = log.missing(stream)
    if missing and known is not None:
        missing += [each for each in known.missing if each[0] >= missing[-1][1]]
    offsets[stream] = advance(offsets[stream], received, missing)
    return whole


def _end(log: StreamLog) -> int:
    """One past the last stored byte."""
    return advance(0, log.bytes, log.missing)
