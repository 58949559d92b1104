"""Whether a task ended as it should, and its log came back byte for byte."""

import asyncio

from msgspec import UNSET

from client.client import Client
from client.demo.cases import Case
from client.demo.screen import Checked
from client.following import STREAMS
from schema.tasks import Stream, Task

_AT_ONCE = 8


async def check_all(dw: Client, done: dict[int, Case]) -> list[Checked]:
    """Look at every task, by id."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(task_id: int, case: Case) -> Checked:
        async with gate:
            return await check(dw, task_id, case)

    return await asyncio.gather(*(one(task_id, case) for task_id, case in sorted(done.items())))


async def check(dw: Client, task_id: int, case: Case) -> Checked:
    """Read both streams apart, and both together."""
    task = await dw.task(task_id)
    wrong = case.wrong(task)
    sizes: dict[Stream, int] = {}
    for stream, expected in zip(STREAMS, (case.stdout, case.stderr), strict=True):
        data = await read(dw, task_id, stream)
        sizes[stream] = len(data)
        wrong += _wrong_log(task, stream, data, expected)
    merged = len(await read(dw, task_id, None))
    if merged != sum(sizes.values()):
        wrong.append(f"both together have {merged:,} bytes, apart {sum(sizes.values()):,}")
    how = "complete" if case.stdout is None else "byte for byte"
    return Checked(task, sizes["stdout"], sizes["stderr"], how, tuple(wrong))


def _wrong_log(task: Task, stream: Stream, data: bytes, expected: bytes | None) -> list[str]:
    log = None if task.logs is UNSET else task.logs.get(stream)
    if log is None:
        return [f"{stream}: the server tells nothing of it"]
    if log.state != "complete":
        return [f"{stream} is {log.state}"]
    if log.bytes != len(data):
        return [f"{stream}: {log.bytes:,} bytes told, {len(data):,} read"]
    if expected is not None and data != expected:
        at = next(
            (at for at, (got, want) in enumerate(zip(data, expected, strict=False)) if got != want),
            min(len(data), len(expected)),
        )
        return [f"{stream}: {len(data):,} bytes for {len(expected):,}, different from byte {at:,}"]
    return []


async def read(dw: Client, task_id: int, stream: Stream | None) -> bytes:
    """Read all that is there now, of one stream or of both."""
    async with dw.logs(task_id, stream=stream) as log:
        return b"".join([piece async for piece in log])
