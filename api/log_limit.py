"""What a log may hold, towards agents that do not keep to it: no more is stored, and it says so."""

import time
from collections.abc import Callable, Iterable

from msgspec import Struct

from api.database import Database
from api.store import logs as store
from api.store.results import AttemptKey, PulledAttempt

_REMEMBERED = 8192  # attempts; some 200 bytes each
_MARK_AGAIN_S = 60.0
_ASK_SHARE = 16


class Beyond(Struct, frozen=True):
    """Output that its log has no room for."""

    attempt: AttemptKey
    stream: int
    """As in CUT_BY_API."""


class CutMarks:
    """Attempts that are marked as cut: once, and again every minute while more comes.

    So the agent of a pulled attempt is not taken for silent when nothing of it is stored any more.
    """

    def __init__(self, silence_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._again_s = min(_MARK_AGAIN_S, silence_s / 4)
        self._clock = clock
        self._marked: dict[Beyond, float] = {}

    def due(self, beyond: Iterable[Beyond]) -> dict[AttemptKey, int]:
        """What is to be written of them: streams by attempt."""
        due: dict[AttemptKey, int] = {}
        for each in filter(self._is_due, beyond):
            due[each.attempt] = due.get(each.attempt, 0) | each.stream
        return due

    def _is_due(self, each: Beyond) -> bool:
        marked_s = self._marked.get(each)
        return marked_s is None or marked_s <= self._clock() - self._again_s

    def written(self, beyond: Iterable[Beyond]) -> None:
        """What was due of them is committed."""
        now_s = self._clock()
        for each in filter(self._is_due, beyond):
            self._marked.pop(each, None)
            self._marked[each] = now_s
        while len(self._marked) > _REMEMBERED:
            del self._marked[next(iter(self._marked))]


class _Size(Struct):
    stored: int = 0
    """When the database was asked last."""
    since: int = 0


class PulledLogs:
    """How much pulled attempts have written: their batches have numbers, and no place in bytes.

    Each process counts what it stores, and asks for the sum of all where that is a sixteenth of the
    limit: a log may have so much too much for each process, and a short one costs nothing.
    """

    def __init__(self, database: Database, most_bytes: int) -> None:
        self._database = database
        self._most_bytes = most_bytes
        self._sizes: dict[AttemptKey, _Size] = {}

    async def take(self, task: int, owned: PulledAttempt, size: int) -> bool:
        """Count a batch; False if it is too much, as all that follows."""
        key = (task, owned.attempt)
        known = self._sizes.setdefault(key, _Size())
        if len(self._sizes) > _REMEMBERED:
            del self._sizes[next(iter(self._sizes))]
        if self._most_bytes > known.since > self._most_bytes // _ASK_SHARE - size:
            async with self._database.acquire() as connection:
                known.stored = await store.stored_bytes(connection, owned.day, *key)
            known.since = 0
        if known.stored + known.since + size > self._most_bytes:
            known.since = self._most_bytes
            return False
        known.since += size
        return True
