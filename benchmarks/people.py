"""Somebody who submits tasks over HTTP and waits until they are done."""

import asyncio
import time
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from benchmarks import wire
from benchmarks.server import BenchServer
from benchmarks.wire import Connection
from schema.tasks import Group, Submission, Submitted, Task

T = TypeVar("T")

_LOOK_S = 0.05  # a look at 2,000 tasks takes a few ms of the machine that is measured


class People:
    """One keep-alive connection."""

    def __init__(self, runner: asyncio.Runner, server: BenchServer) -> None:
        self._runner = runner
        self._connection: Connection = runner.run(wire.connect(server.port))

    def submit(self, tasks: Sequence[Submission]) -> list[int]:
        """`POST /tasks` with all of them; their numbers."""
        answers = self._runner.run(self._connection.post("/tasks", tasks, list[Submitted]))
        return [each.id for each in answers]

    def wait(self, group: str, within_s: float = 120.0) -> Group:
        """Wait until the last task of a group has ended."""
        return self._runner.run(self._wait(group, within_s))

    async def _wait(self, group: str, within_s: float) -> Group:
        deadline = time.monotonic() + within_s
        while True:
            found = await self._get(f"/groups/{group}", Group)
            if found.finished_at is not None:
                return found
            assert time.monotonic() < deadline, f"not within {within_s} s: {found}"
            await asyncio.sleep(_LOOK_S)

    def show(self, task: int) -> Task:
        """`GET /tasks/{id}`, which tells how whole its log is."""
        return self._runner.run(self._get(f"/tasks/{task}", Task))

    def cancel(self, tasks: Sequence[int]) -> None:
        """`POST /tasks/{id}/cancel` for each."""
        for task in tasks:
            self._runner.run(self._connection.post(f"/tasks/{task}/cancel", None, Task))

    async def _get(self, path: str, answer: type[T]) -> T:
        request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        return msgspec.json.decode(await self._connection.send(request), type=answer)

    def close(self) -> None:
        """Hang up."""
        self._connection.close()
