"""Stores submissions; what somebody here waits for is his at once: one commit instead of two."""

from collections.abc import Mapping, Sequence

import asyncpg

from api.claims import Claims
from api.database import Database
from api.lanes import Lanes
from api.metrics import SUBMITTED
from api.notices import Notices
from api.quotas import submission
from api.sealing import Seals
from api.store import tasks as store
from api.store.claims import Claimed
from api.store.lanes import Needs
from api.store.tasks import Queued, Stored
from schema.tasks import Submission, Submitted

_DEADLOCK_TRIES = 4


class Submitting:
    """Takes submissions that were checked."""

    def __init__(
        self,
        database: Database,
        lanes: Lanes,
        notices: Notices,
        claims: Claims,
        seals: Seals | None,
        *,
        a_minute: int,
    ) -> None:
        """`a_minute`: submissions of one token; 0: any. None has secrets without `seals`."""
        self._database = database
        self._lanes = lanes
        self._notices = notices
        self._claims = claims
        self._seals = seals
        self._a_minute = a_minute

    async def store(self, tasks: Sequence[Submission], who: str) -> list[Submitted]:
        """Store all or none; an answer for each. TooManyLanesError, KeyConflictError, a 429."""
        lanes = await self._lanes.resolve({store.needs_of(task) for task in tasks})
        order = _first_to_last(tasks)
        # Of several lanes a waiter would have to be given the best task: that is left to a claim.
        loan = self._claims.lend(next(iter(lanes.values())), len(order) if len(lanes) == 1 else 0)
        sessions: list[int | None] = [None] * len(tasks)
        for number, waiter in zip(order, loan.places, strict=False):
            sessions[number] = waiter.number
        stored: list[Stored] = []
        try:
            stored, queued = await self._submit_many(tasks, lanes, sessions, who)
        finally:
            self._claims.settle(
                loan, [_claimed(tasks[number], stored[number]) for number in order if stored]
            )
        SUBMITTED.inc(sum(each.answer.created for each in stored))
        self._notices.tasks_queued(queued)
        return [each.answer for each in stored]

    async def _submit_many(
        self,
        tasks: Sequence[Submission],
        lanes: Mapping[Needs, int],
        sessions: Sequence[int | None],
        who: str,
    ) -> tuple[list[Stored], list[Queued]]:
        """Try again where two submissions bring the same keys in other orders at the same time."""
        tries = 0
        while True:
            try:
                async with (
                    self._database.acquire() as connection,
                    submission(connection, who, self._a_minute),
                ):
                    return await store.submit_many(
                        connection, tasks, lanes, sessions, who, self._seals
                    )
            except asyncpg.DeadlockDetectedError:
                tries += 1
                if tries == _DEADLOCK_TRIES:
                    raise


def _first_to_last(tasks: Sequence[Submission]) -> list[int]:
    """Numbers of those that may be claimed at once, in the order of the queue."""
    numbers = [number for number, task in enumerate(tasks) if task.run_after is None]
    return sorted(numbers, key=lambda number: -tasks[number].priority)


def _claimed(task: Submission, stored: Stored) -> Claimed | None:
    return None if stored.day is None else Claimed.new(stored.answer.id, stored.day, task)
