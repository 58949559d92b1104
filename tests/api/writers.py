"""Agents of tests that write lines to both streams, and know what they wrote."""

import random
from collections.abc import Callable
from typing import Any

from schema.claims import ClaimedTask
from tests.api.events import Viewer
from tests.api.server import BASE_US, Api, chunk, eventually, exited, total


class Writer:
    """One attempt."""

    def __init__(self, api: Api, session: str, task: ClaimedTask, seed: int = 0) -> None:
        self.api, self.session, self.task = api, session, task
        self.logs = {"stdout": b"", "stderr": b""}
        self.lines: list[tuple[str, bytes]] = []
        """Of both streams, in the order of their times."""
        self._random = random.Random(seed)
        self._time = 0

    async def write(self, lines: int, *, patiently: bool = False) -> None:
        """Report some lines: a chunk of each stream with a mark for each line, as agents do.

        `patiently`: again, as long as the server answers that it cannot.
        """
        sent: dict[str, tuple[bytes, list[tuple[int, int]]]] = {
            "stdout": (b"", []), "stderr": (b"", [])
        }  # fmt: skip
        for _ in range(lines):
            stream = self._random.choice(["stdout", "stdout", "stderr"])
            size = self._random.choice([0, 5, 80, 3000])
            line = b"%d %b\n" % (len(self.lines), self._random.randbytes(size).hex().encode())
            self._time += 1
            data, marks = sent[stream]
            sent[stream] = (data + line, [*marks, (len(data), BASE_US + self._time)])
            self.lines.append((stream, line))
        chunks = []
        for stream, (data, marks) in sent.items():
            if data:
                offset = len(self.logs[stream])
                chunks.append(
                    chunk(self.task.lease, data, stream=stream, offset=offset, marks=marks)
                )
                self.logs[stream] += data
        if not patiently:
            assert await self.api.report(self.session, chunks) == ["ok"] * len(chunks)
            return

        async def report() -> set[str]:
            try:
                again = [each | {"resent": True} for each in chunks]
                return set(await self.api.report(self.session, again))
            except AssertionError as error:
                return {str(error)}

        await eventually(report, lambda verdicts: verdicts <= {"ok", "duplicate"})

    async def end(self, **more: Any) -> None:
        """Report the result."""
        totals = {stream: total(data) for stream, data in self.logs.items()}
        result = exited(self.task.lease, **(totals | more))
        assert await self.api.report(self.session, [], [result]) == ["ok"]


async def writer(api: Api, seed: int = 0, **fields: Any) -> Writer:
    """A task that runs."""
    session, task = await api.started(**fields)
    return Writer(api, session, task, seed)


async def until(viewer: Viewer, good: Callable[[Viewer], bool]) -> None:
    """Wait until a viewer was told something."""

    async def look() -> Viewer:
        return viewer

    try:
        await eventually(look, good)
    except AssertionError:
        raise AssertionError(f"not told: {viewer.events[-5:]!r:.2000}") from None
