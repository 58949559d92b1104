"""What ended in the last hour, counted once for all who look."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from api.console.plot import MINUTES
from api.database import Database
from api.store import console as store
from schema.tasks import Status

_SETTLED = timedelta(seconds=30)
"""A transaction may commit later than the time that it writes."""


def utc_now() -> datetime:
    """The time of this machine."""
    return datetime.now(UTC)


class Throughput:
    """The last hour by minutes. A minute that is long over is counted no more.

    So a look costs what ended within a minute or two, also where that are 50,000 tasks.
    """

    def __init__(self, database: Database, now: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._now = now
        self._counts: dict[datetime, dict[Status, int]] = {}
        self._counted_to: datetime | None = None
        self._looking = asyncio.Lock()

    async def look(self) -> dict[datetime, dict[Status, int]]:
        """Counts by the minute in UTC; minutes without are left out."""
        async with self._looking:
            now = self._now()
            start = now.replace(second=0, microsecond=0) - timedelta(minutes=MINUTES - 1)
            since = max(start, self._counted_to or start)
            async with self._database.reading() as connection:
                ended = await store.count_ended(connection, since)
            self._counts = {
                minute: row for minute, row in self._counts.items() if start <= minute < since
            }
            for each in ended:
                self._counts.setdefault(each.minute.astimezone(UTC), {})[each.status] = each.count
            self._counted_to = (now - _SETTLED).replace(second=0, microsecond=0)
            return {minute: dict(row) for minute, row in self._counts.items()}
