"""Reports: chunks and results, verified here, written together, one verdict each.

A report's way: leases and gzip members are checked (large ones in a thread), the coalescer joins
it with others, one transaction stores all their chunks and then ends their attempts.
"""

import asyncio
import logging
from collections.abc import Sequence
from datetime import date

import asyncpg
from msgspec import Struct

from api import bodies
from api.batching import Coalescer
from api.bodies import BadGzipError
from api.database import Database
from api.metrics import CHUNK_BYTES, CHUNKS, RESULTS
from api.notices import Notices
from api.store import Connection
from api.store import logs as log_store
from api.store import results as result_store
from api.store.logs import STREAMS, Chunk, ChunkKey
from api.store.results import Ended
from schema import lease, marks
from schema.lease import BadLeaseError, Lease
from schema.marks import BadMarksError
from schema.reports import (
    MAX_CHUNK_BYTES,
    LogChunk,
    Report,
    ReportReply,
    Result,
    StreamTotal,
    Verdict,
)

_BATCH_BYTES = 8 * 1024 * 1024
_CONNECTIONS = 2  # two COPYs in flight keep both a core and the disk busy
_INLINE_BYTES = 16_384
_TRIES = 4
_log = logging.getLogger(__name__)

OK = Verdict("ok")
_DUPLICATE = Verdict("duplicate")
_STALE = Verdict("stale", "another attempt counts now, or the task is over")
_GONE = Verdict("gone", "retention dropped the logs of that day")


class Writes(Struct):
    """What one report wants written."""

    chunks: list[Chunk]
    ended: list[Ended]
    resent: bool
    """Some chunk may be stored already."""

    @property
    def size(self) -> int:
        """Bytes, about."""
        return sum(chunk.weight for chunk in self.chunks) + 200 * len(self.ended)


class Written(Struct):
    """Verdicts in the order of the Writes."""

    chunks: list[Verdict]
    ended: list[Verdict]


class Reports:
    """Takes reports; returns when all that they say is committed, or refused item by item."""

    def __init__(
        self,
        database: Database,
        notices: Notices,
        lease_key: bytes,
        *,
        crash_limit: int,
        queue_bytes: int,
    ) -> None:
        self._database = database
        self._notices = notices
        self._lease_key = lease_key
        self._crash_limit = crash_limit
        self._days: frozenset[date] = frozenset()
        self.writer: Coalescer[Writes, Written] = Coalescer(
            self._write, lanes=_CONNECTIONS, batch_bytes=_BATCH_BYTES, queue_bytes=queue_bytes
        )

    async def accept(self, report: Report) -> ReportReply:
        """Verify and write one report."""
        chunks: list[Chunk | Verdict]
        if sum(len(chunk.content) for chunk in report.chunks) > _INLINE_BYTES:
            chunks = await asyncio.to_thread(self._verify_all, report.chunks)
        else:
            chunks = self._verify_all(report.chunks)
        await self._know_days({chunk.day for chunk in chunks if isinstance(chunk, Chunk)})
        chunks = [
            _GONE if isinstance(chunk, Chunk) and chunk.day not in self._days else chunk
            for chunk in chunks
        ]
        refused = {
            self._attempt(sent.lease)
            for sent, chunk in zip(report.chunks, chunks, strict=True)
            if isinstance(chunk, Verdict) and chunk.verdict == "invalid"
        }
        ended = [self._ended(result, refused) for result in report.results]
        writes = Writes(
            [chunk for chunk in chunks if isinstance(chunk, Chunk)],
            [each for each in ended if isinstance(each, Ended)],
            any(chunk.resent for chunk in report.chunks),
        )
        written = await self.write(writes)
        chunk_verdicts, ended_verdicts = iter(written.chunks), iter(written.ended)
        return ReportReply(
            tuple(each if isinstance(each, Verdict) else next(chunk_verdicts) for each in chunks),
            tuple(each if isinstance(each, Verdict) else next(ended_verdicts) for each in ended),
        )

    async def write(self, writes: Writes) -> Written:
        """Commit verified chunks and results, together with whatever else waits."""
        if not writes.chunks and not writes.ended:
            return Written([], [])
        written = await self.writer.submit(writes, writes.size)
        for chunk, verdict in zip(writes.chunks, written.chunks, strict=True):
            CHUNKS.labels(verdict.verdict).inc()
            CHUNK_BYTES.inc(chunk.size)
        for verdict in written.ended:
            RESULTS.labels(verdict.verdict).inc()
        return written

    async def refresh_days(self) -> None:
        """Read again which days have a partition."""
        async with self._database.acquire() as connection:
            self._days = frozenset(await log_store.list_days(connection))

    async def _know_days(self, days: set[date]) -> None:
        if not days <= self._days:
            await self.refresh_days()

    def _attempt(self, text: str) -> tuple[int, int] | None:
        try:
            proof = lease.verify(text, self._lease_key)
        except BadLeaseError:
            return None
        return proof.task, proof.attempt

    def _verify_all(self, chunks: Sequence[LogChunk]) -> list[Chunk | Verdict]:
        return [self._verify(chunk) for chunk in chunks]

    def _verify(self, sent: LogChunk) -> Chunk | Verdict:
        try:
            proof = lease.verify(sent.lease, self._lease_key)
            measured = bodies.measure(sent.content, MAX_CHUNK_BYTES)
            marks.check(marks.decode(sent.marks), measured.size)
        except (BadLeaseError, BadGzipError, BadMarksError) as error:
            return Verdict("invalid", str(error))
        if measured.size == 0:
            return Verdict("invalid", "the chunk is empty")
        return _chunk(proof, sent, measured)

    def _ended(self, result: Result, refused: set[tuple[int, int] | None]) -> Ended | Verdict:
        try:
            proof = lease.verify(result.lease, self._lease_key)
        except BadLeaseError as error:
            return Verdict("invalid", str(error))
        if (proof.task, proof.attempt) in refused:
            return _refused_chunk()
        return Ended(
            task=proof.task,
            attempt=proof.attempt,
            session=proof.session,
            outcome=result_store.outcome_of(result),
            reason=result.reason,
            exit_code=result.exit_code,
            signal=result.signal,
            message=_storable(result.message),
            run_s=result.run_s,
            stdout=_total(result.stdout),
            stderr=_total(result.stderr),
        )

    async def _write(self, batch: list[Writes]) -> list[Written]:
        careful = False
        for last in range(_TRIES):
            try:
                async with self._database.acquire() as connection:
                    return await self._write_once(connection, batch, careful=careful)
            except asyncpg.UniqueViolationError:
                careful = True  # COPY cannot skip what is stored already
            except (asyncpg.DeadlockDetectedError, asyncpg.InvalidCachedStatementError):
                if last == _TRIES - 1:
                    raise
        raise RuntimeError("the careful path met a unique violation")

    async def _write_once(
        self, connection: Connection, batch: list[Writes], *, careful: bool
    ) -> list[Written]:
        async with connection.transaction():
            verdicts = await self._store_chunks(connection, batch, careful=careful)
            refused = {
                (chunk.task, chunk.attempt)
                for writes, answers in zip(batch, verdicts, strict=True)
                for chunk, answer in zip(writes.chunks, answers, strict=True)
                if answer.verdict == "conflict"
            }
            wanted: dict[tuple[int, int], Ended] = {}
            for writes in batch:
                for each in writes.ended:
                    if (each.task, each.attempt) not in refused:
                        wanted.setdefault((each.task, each.attempt), each)
            changes = await result_store.finish_many(connection, wanted.values(), self._crash_limit)
            changed = {(each.task, each.attempt) for each in changes}
            others = [each for key, each in wanted.items() if key not in changed]
            before = await result_store.ended_before(connection, others) if others else set()
        self._notices.tasks_queued(each.place for each in changes if each.status == "pending")
        written = []
        for writes, answers in zip(batch, verdicts, strict=True):
            ended = []
            for each in writes.ended:
                key = (each.task, each.attempt)
                if key in refused:
                    ended.append(_refused_chunk())
                elif wanted[key] is each and key in changed:
                    ended.append(OK)
                elif key in before or (key in changed and wanted[key].reason == each.reason):
                    ended.append(_DUPLICATE)
                else:
                    ended.append(_STALE)
            written.append(Written(answers, ended))
        return written

    async def _store_chunks(
        self, connection: Connection, batch: list[Writes], *, careful: bool
    ) -> list[list[Verdict]]:
        """Copy what is new, merge what may be stored already."""
        slow = [chunk for writes in batch if careful or writes.resent for chunk in writes.chunks]
        fast = [
            chunk
            for writes in batch
            if not careful and not writes.resent
            for chunk in writes.chunks
        ]
        if fast:
            rows = (
                await asyncio.to_thread(log_store.binary_rows, fast)
                if sum(chunk.weight for chunk in fast) > _INLINE_BYTES
                else log_store.binary_rows(fast)
            )
            await log_store.copy_chunks(connection, [rows])
        stored: set[ChunkKey] = set()
        sizes: dict[ChunkKey, tuple[int, int]] = {}
        if slow:
            stored = await log_store.merge_chunks(connection, slow)
            sizes = await log_store.stored_sizes(connection, [chunk.key for chunk in slow])
        answers = []
        for writes in batch:
            if careful or writes.resent:
                answers.append([_merged(chunk, stored, sizes) for chunk in writes.chunks])
            else:
                answers.append([OK] * len(writes.chunks))
        return answers


def _chunk(proof: Lease, sent: LogChunk, measured: bodies.Measured) -> Chunk:
    return Chunk(
        day=proof.day,
        task=proof.task,
        attempt=proof.attempt,
        stream=STREAMS[sent.stream],
        position=sent.offset,
        size=measured.size,
        lines=measured.lines,
        crc=measured.crc,
        marks=sent.marks,
        content=sent.content,
    )


def _merged(chunk: Chunk, stored: set[ChunkKey], sizes: dict[ChunkKey, tuple[int, int]]) -> Verdict:
    if chunk.key in stored:
        stored.discard(chunk.key)  # the same key a second time in this batch was not stored
        return OK
    if sizes.get(chunk.key) == (chunk.size, chunk.crc):
        return _DUPLICATE
    return Verdict("conflict", "other bytes are stored at this place of the stream")


def _refused_chunk() -> Verdict:
    return Verdict("conflict", "a chunk of this attempt was refused: send the result once more")


def _total(total: StreamTotal | None) -> tuple[int, int] | None:
    return None if total is None else (total.bytes, total.crc)


def _storable(message: str | None) -> str | None:
    """PostgreSQL's text has no NUL."""
    return None if message is None else message.replace("\0", "\N{REPLACEMENT CHARACTER}")
