"""Attempts of the compatible routes, found by their task: who asks together shares a statement."""

from api.batching import Bounds, Coalescer
from api.database import Database
from api.store import results as store
from api.store.results import PulledAttempt


class PulledAttempts:
    """Each batch of lines and each status of a legacy agent has to ask."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._coalescer: Coalescer[int, PulledAttempt | None] = Coalescer(
            self._find_many, batch=Bounds(1000), queue=Bounds(100_000)
        )

    @property
    def waiting(self) -> int:
        """Looks that wait for a connection."""
        return self._coalescer.depth

    async def find(self, task: int) -> PulledAttempt | None:
        """The newest attempt of the task, if the compatible routes claimed it."""
        return await self._coalescer.submit(task)

    async def run(self) -> None:
        """Answer until cancelled."""
        await self._coalescer.run()

    async def _find_many(self, tasks: list[int]) -> list[PulledAttempt | None]:
        async with self._database.acquire() as connection:
            return await store.pulled_attempts(connection, tasks)
