"""The one writer of log chunks and results: what waits is written together.

One transaction stores the chunks of many reports and then ends their attempts, so that a result is
never committed before its own logs.
"""

import itertools
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from datetime import date

import asyncpg
from msgspec import Struct, field

from api.batching import Bounds, Coalescer
from api.database import Database
from api.metrics import CHUNK_BYTES, CHUNKS, RESULTS
from api.notices import Notices
from api.store import Connection
from api.store import logs as log_store
from api.store import results as result_store
from api.store.logs import Chunk, ChunkKey
from api.store.results import AttemptKey, Change, Ended
from schema.reports import Verdict

_BATCH = Bounds(items=1000, bytes=8 * 1024 * 1024)
_QUEUE_ITEMS = 100_000
_CONNECTIONS = 2  # two COPYs in flight keep both a core and the disk busy
_TRIES = 4
_CAREFULLY = (
    asyncpg.UniqueViolationError,  # COPY cannot skip what is stored already
    asyncpg.DeadlockDetectedError,  # with somebody who stores the same
)
_AGAIN = (
    *_CAREFULLY,
    asyncpg.CheckViolationError,  # retention dropped a day just now
    asyncpg.InvalidCachedStatementError,  # a migration changed a table
)
_log = logging.getLogger(__name__)

OK = Verdict("ok")
DUPLICATE = Verdict("duplicate")
STALE = Verdict("stale", "another attempt counts now, or the task has ended")
GONE = Verdict("gone", "retention dropped the logs of that day")
CONFLICT = Verdict("conflict", "other bytes are stored at this position of the stream")
CHUNK_REFUSED = Verdict("conflict", "a chunk of this attempt was refused: send the result again")


class Writes(Struct):
    """What one report wants written."""

    chunks: list[Chunk]
    ended: list[Ended]
    resent: bool
    """Some chunk may be stored already."""
    cut: dict[AttemptKey, int] = field(default_factory=dict)
    """Streams that had more than a log may hold, as in CUT_BY_API, and shall say so."""

    @property
    def weight(self) -> int:
        """Bytes, about."""
        return sum(chunk.weight for chunk in self.chunks) + 200 * len(self.ended)


class Written(Struct):
    """Verdicts in the order of the Writes."""

    chunks: list[Verdict]
    ended: list[Verdict]


class Writer:
    """Commits verified chunks and results."""

    def __init__(
        self, database: Database, notices: Notices, *, crash_limit: int, queue_bytes: int
    ) -> None:
        self._database = database
        self._notices = notices
        self._crash_limit = crash_limit
        self._days: frozenset[date] = frozenset()
        self._coalescer: Coalescer[Writes, Written] = Coalescer(
            self._flush,
            flushes=_CONNECTIONS,
            batch=_BATCH,
            queue=Bounds(_QUEUE_ITEMS, queue_bytes),
        )

    @property
    def waiting(self) -> int:
        """Reports that wait for a connection."""
        return self._coalescer.depth

    async def run(self) -> None:
        """Write until cancelled."""
        await self._coalescer.run()

    async def write(self, writes: Writes) -> Written:
        """Return when it is committed, together with whatever else waits."""
        if not writes.chunks and not writes.ended and not writes.cut:
            return Written([], [])
        if not {chunk.day for chunk in writes.chunks} <= self._days:
            await self.refresh_days()
        return await self._coalescer.submit(writes, writes.weight)

    async def refresh_days(self) -> None:
        """Read again which days have a partition."""
        async with self._database.acquire() as connection:
            self._days = frozenset(await log_store.list_days(connection))

    async def _flush(self, batch: list[Writes]) -> list[Written]:
        careful = False
        for tries in itertools.count(1):
            plan = _plan(batch, self._days, careful=careful)  # no connection waits for it
            try:
                async with self._database.acquire() as connection:
                    return await self._write(connection, batch, plan)
            except _AGAIN as error:
                if tries == _TRIES:
                    raise
                careful = careful or isinstance(error, _CAREFULLY)
                if isinstance(error, asyncpg.CheckViolationError):
                    await self.refresh_days()
        raise AssertionError

    async def _write(
        self, connection: Connection, batch: list[Writes], plan: "_Plan"
    ) -> list[Written]:
        statements = sum((plan.rows is not None, bool(plan.merged), bool(plan.cut), plan.ends))
        # One statement is a transaction by itself: two round trips less.
        async with connection.transaction() if statements > 1 else nullcontext():
            chunks = await _store_chunks(connection, batch, plan)
            if plan.cut:
                await log_store.mark_cut(connection, plan.cut)
            refused = {
                (chunk.task, chunk.attempt)
                for writes, verdicts in zip(batch, chunks, strict=True)
                for chunk, verdict in zip(writes.chunks, verdicts, strict=True)
                if verdict is CONFLICT
            }
            results = _Results(refused, batch)
            changes = await result_store.finish_many(
                connection, results.wanted.values(), self._crash_limit
            )
        self._notices.tasks_queued(each.place for each in changes if each.status == "pending")
        self._notices.tasks_moved(_moved(batch, changes))
        others = results.without((each.task, each.attempt) for each in changes)
        before = await result_store.ended_before(connection, others) if others else set()
        written = [
            Written(verdicts, [results.verdict(each, before) for each in writes.ended])
            for writes, verdicts in zip(batch, chunks, strict=True)
        ]
        _count(batch, written)
        return written


def _moved(batch: list[Writes], changes: list[Change]) -> Iterator[int]:
    """Tasks that have more output, or ended."""
    for writes in batch:
        yield from (chunk.task for chunk in writes.chunks)
    yield from (each.task for each in changes)


def _count(batch: list[Writes], written: list[Written]) -> None:
    """Once for a batch: a counter that all workers share takes 2 us."""
    for name, number in Counter(each.verdict for one in written for each in one.chunks).items():
        CHUNKS.labels(name).inc(number)
    for name, number in Counter(each.verdict for one in written for each in one.ended).items():
        RESULTS.labels(name).inc(number)
    CHUNK_BYTES.inc(sum(chunk.size for writes in batch for chunk in writes.chunks))


class _Plan(Struct):
    """How the chunks of a batch are to be stored."""

    days: frozenset[date]
    """Days that have a partition; chunks of others are gone."""
    rows: bytearray | None
    """New chunks, for COPY."""
    merged: list[Chunk]
    """Chunks that may be stored already."""
    careful: bool
    """All go that way."""
    cut: dict[AttemptKey, int]
    """Streams that had more than is stored."""
    ends: bool
    """There are results, too."""


def _plan(batch: list[Writes], days: frozenset[date], *, careful: bool) -> _Plan:
    fast: list[Chunk] = []
    merged: list[Chunk] = []
    cut: dict[AttemptKey, int] = {}
    for writes in batch:
        for key, streams in writes.cut.items():
            cut[key] = cut.get(key, 0) | streams
        kept = merged if careful or writes.resent else fast
        kept += (chunk for chunk in writes.chunks if chunk.day in days)
    fast.sort(key=lambda chunk: chunk.key)  # so that two batches cannot lock each other out
    # In no thread: it is copying, which keeps the GIL, so the event loop would wait all the same.
    rows = log_store.binary_rows(fast) if fast else None
    return _Plan(days, rows, merged, careful, cut, any(writes.ended for writes in batch))


async def _store_chunks(
    connection: Connection, batch: list[Writes], plan: _Plan
) -> list[list[Verdict]]:
    """Copy what is new, merge what may be stored already; verdicts for each of the batch."""
    if plan.rows is not None:
        await log_store.copy_chunks(connection, plan.rows)
    stored: set[ChunkKey] = set()
    sizes: dict[ChunkKey, tuple[int, int]] = {}
    if plan.merged:
        stored = await log_store.merge_chunks(connection, plan.merged)
        sizes = await log_store.stored_sizes(connection, [chunk.key for chunk in plan.merged])

    def verdict(chunk: Chunk, *, merged: bool) -> Verdict:
        if chunk.day not in plan.days:
            return GONE
        return _merged(chunk, stored, sizes) if merged else OK

    return [
        [verdict(chunk, merged=plan.careful or writes.resent) for chunk in writes.chunks]
        for writes in batch
    ]


class _Results:
    """The results of a batch: which to write, and what became of each."""

    def __init__(self, refused: set[AttemptKey], batch: list[Writes]) -> None:
        self._refused = refused
        self._taken: set[AttemptKey] = set()
        self.wanted: dict[AttemptKey, Ended] = {}
        """The first result of each attempt, unless one of its chunks was refused."""
        for writes in batch:
            for each in writes.ended:
                key = (each.task, each.attempt)
                if key not in refused:
                    self.wanted.setdefault(key, each)

    def without(self, taken: Iterable[AttemptKey]) -> list[Ended]:
        """Note which ones the database took; gives the others."""
        self._taken = set(taken)
        return [each for key, each in self.wanted.items() if key not in self._taken]

    def verdict(self, each: Ended, before: set[AttemptKey]) -> Verdict:
        """`before`: attempts that had ended in the same way before."""
        key = (each.task, each.attempt)
        if key in self._refused:
            return CHUNK_REFUSED
        first = self.wanted[key]
        if key in self._taken and first is each:
            return OK
        if key in before or (key in self._taken and first.reason == each.reason):
            return DUPLICATE
        return STALE


def _merged(chunk: Chunk, stored: set[ChunkKey], sizes: dict[ChunkKey, tuple[int, int]]) -> Verdict:
    if sizes.get(chunk.key) != (chunk.size, chunk.crc):
        return CONFLICT
    if chunk.key in stored:
        stored.discard(chunk.key)  # the same key a second time in this batch was not stored
        return OK
    return DUPLICATE
