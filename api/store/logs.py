"""Log chunks: stored as they came, one gzip member a row, in a partition a day."""

import struct
import sys
from array import array
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Literal, TypeAlias

from msgspec import Struct

from api.sql import load
from api.store import Connection
from schema.marks import first_us
from schema.reports import StreamTotal
from schema.tasks import Stream

_SQL = load("logs")

STREAMS: dict[Stream, int] = {"stdout": 1, "stderr": 2}

CUT_BY_AGENT: dict[Stream, int] = {"stdout": 1, "stderr": 2}
"""In `cut` of tasks and attempts: the log is all there is, but for what its agent dropped."""
CUT_BY_API: dict[Stream, int] = {"stdout": 4, "stderr": 8}
"""The API stored no more of it."""

ChunkKey = tuple[date, int, int, int, int]
"""(day, task, attempt, stream number, position)"""

Column: TypeAlias = "array[int]"

_COPY_HEAD = b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0)
_COPY_TAIL = struct.pack("!h", -1)
# Field count, then each fixed field behind its length: day, task, attempt, stream, position,
# size, lines, crc.
_COPY_ROW = struct.Struct("!h ii iq ii ih iq ii ii iq")
_COLUMNS = (
    "day", "task", "attempt", "stream", "position", "size", "lines", "crc", "marks", "content",
)  # fmt: skip
_POSTGRES_EPOCH = date(2000, 1, 1).toordinal()


class Chunk(Struct, frozen=True, gc=False):
    """A verified chunk on its way to the table."""

    day: date
    task: int
    attempt: int
    stream: int
    position: int
    size: int
    """Bytes, inflated."""
    lines: int
    crc: int
    marks: bytes
    content: bytes

    @property
    def key(self) -> ChunkKey:
        """What is unique of it."""
        return (self.day, self.task, self.attempt, self.stream, self.position)

    @property
    def weight(self) -> int:
        """Bytes that it takes in memory and in the table, about."""
        return len(self.content) + len(self.marks) + 100


class Extents(Struct, frozen=True):
    """All stored chunks of one stream without their content, by position: an array each."""

    positions: Column
    sizes: Column
    """Bytes, inflated."""
    lines: Column
    crcs: Column

    def __len__(self) -> int:
        return len(self.positions)


class StoredChunk(Struct, frozen=True, gc=False):
    """A stored chunk."""

    position: int
    size: int
    """Bytes, inflated."""
    lines: int
    marks: bytes
    content: bytes
    received_us: int


class AttemptPlace(Struct, frozen=True):
    """Where the log of an attempt is, and what its result declared."""

    attempt: int
    day: date
    pulled: bool
    """Claimed through the compatible routes: positions are batch numbers, not bytes."""
    ended: bool
    stdout: StreamTotal | None
    stderr: StreamTotal | None
    started_us: int
    cut: int = 0
    """Of which streams it has not all: CUT_BY_AGENT, CUT_BY_API."""


def _binary_row(chunk: Chunk) -> tuple[bytes, ...]:
    fixed = _COPY_ROW.pack(
        len(_COLUMNS),
        4, chunk.day.toordinal() - _POSTGRES_EPOCH,
        8, chunk.task,
        4, chunk.attempt,
        2, chunk.stream,
        8, chunk.position,
        4, chunk.size,
        4, chunk.lines,
        8, chunk.crc,
    )  # fmt: skip
    marks, content = chunk.marks, chunk.content
    return (fixed, struct.pack("!i", len(marks)), marks, struct.pack("!i", len(content)), content)


def binary_rows(chunks: Iterable[Chunk]) -> bytearray:
    """All that COPY is to be sent, in its binary form; may run in any thread."""
    rows = (part for chunk in chunks for part in _binary_row(chunk))
    return bytearray(b"").join((_COPY_HEAD, *rows, _COPY_TAIL))


async def copy_chunks(connection: Connection, rows: bytearray) -> None:
    """Store new chunks, given as binary_rows; UniqueViolationError when any was stored before.

    `copy_records_to_table` would prepare a statement on each call and encode on the event loop.
    Bytes that are no bytearray would be taken for the name of a file; a file would be read in
    pieces of 512 KiB, each in a thread.
    """
    await connection.copy_to_table(
        "log_chunks",
        source=rows,  # type: ignore[arg-type]  # its stub knows nothing of buffers
        format="binary",
        columns=_COLUMNS,
    )


async def merge_chunks(connection: Connection, chunks: Sequence[Chunk]) -> set[ChunkKey]:
    """Store those that are new; returns their keys."""
    rows = await connection.fetch(
        _SQL["merge_chunks"],
        *([getattr(chunk, column) for chunk in chunks] for column in _COLUMNS),
    )
    return {(row[0], row[1], row[2], row[3], row[4]) for row in rows}


async def stored_sizes(
    connection: Connection, keys: Sequence[ChunkKey]
) -> dict[ChunkKey, tuple[int, int]]:
    """Bytes and CRC-32 of what stands under the keys."""
    columns = [list(column) for column in zip(*keys, strict=True)]
    rows = await connection.fetch(_SQL["stored_sizes"], *columns)
    return {(row[0], row[1], row[2], row[3], row[4]): (row[5], row[6]) for row in rows}


async def attempt_place(
    connection: Connection, task: int, attempt: int | None
) -> AttemptPlace | None:
    """Of the newest attempt if none is named; None when there is no such attempt."""
    row = await connection.fetchrow(_SQL["attempt_place"], task, attempt)
    if row is None:
        return None
    return AttemptPlace(
        row["attempt"], row["day"], row["pulled"], row["ended"],
        _total(row["stdout_bytes"], row["stdout_crc"]),
        _total(row["stderr_bytes"], row["stderr_crc"]),
        int(row["started_at"].timestamp() * 1_000_000), row["cut"],
    )  # fmt: skip


def _total(size: int | None, crc: int | None) -> StreamTotal | None:
    return None if size is None or crc is None else StreamTotal(size, crc)


async def mark_cut(connection: Connection, streams: Mapping[tuple[int, int], int]) -> None:
    """Note that no more is stored of these attempts, (task, attempt): streams as in CUT_BY_API."""
    tasks, attempts = zip(*streams, strict=True)
    await connection.execute(_SQL["mark_cut"], tasks, attempts, list(streams.values()))


async def stored_bytes(connection: Connection, day: date, task: int, attempt: int) -> int:
    """Of both streams of an attempt, inflated."""
    return int(await connection.fetchval(_SQL["stored_bytes"], day, task, attempt))


async def list_extents(
    connection: Connection, task: int, place: AttemptPlace, stream: int
) -> Extents:
    """All chunks of one stream, by position.

    100,000 of them take 50 to 75 ms and 2.4 MB in this way; a row and a Struct each took 115 ms.
    """
    row = await connection.fetchrow(_SQL["list_extents"], place.day, task, place.attempt, stream)
    assert row is not None  # aggregates without groups always give one
    return Extents(
        _column("q", row[0]), _column("i", row[1]), _column("i", row[2]), _column("q", row[3])
    )


def _column(kind: Literal["i", "q"], packed: bytes | None) -> Column:
    """Numbers of four or eight bytes as PostgreSQL sends them; None where there is no row."""
    column = array(kind, packed or b"")
    if sys.byteorder == "little":
        column.byteswap()
    return column


async def list_times(
    connection: Connection, task: int, place: AttemptPlace, stream: int, chunks: int
) -> Column:
    """When the first byte of each of the first `chunks` was read, in microseconds since 1970."""
    rows = await connection.fetch(
        _SQL["list_times"], place.day, task, place.attempt, stream, chunks
    )
    return array("q", [first_us(row[0]) or row[1] for row in rows])


async def read_chunks(
    connection: Connection, task: int, place: AttemptPlace, stream: int, position: int, limit: int
) -> list[StoredChunk]:
    """At most `limit` chunks of one stream from `position` on."""
    rows = await connection.fetch(
        _SQL["read_chunks"], place.day, task, place.attempt, stream, position, limit
    )
    return [StoredChunk(*row) for row in rows]


async def list_days(connection: Connection) -> set[date]:
    """Days that have a partition."""
    return {
        day
        for _, day, attached, detaching in await connection.fetch(_SQL["list_partitions"])
        if attached and not detaching
    }


async def today(connection: Connection) -> date:
    """The UTC day by the database's clock."""
    day: date = await connection.fetchval(_SQL["today"])
    return day


async def add_days(connection: Connection, ahead: int) -> set[date]:
    """Make the partitions from yesterday on; returns all days that have one. One at a time."""
    have = await list_days(connection)
    first = await today(connection)
    for day in (first + timedelta(days=number) for number in range(-1, ahead + 1)):
        if day not in have:
            # PARTITION OF would lock all of log_chunks against its readers and writers.
            name = f"log_chunks_{day:%Y%m%d}"
            await connection.execute(f"CREATE TABLE {name} (LIKE log_chunks INCLUDING ALL)")
            await connection.execute(
                f"ALTER TABLE log_chunks ATTACH PARTITION {name}"
                f" FOR VALUES FROM ('{day}') TO ('{day + timedelta(days=1)}')"
            )
            have.add(day)
    return have


async def drop_days(connection: Connection, before: date) -> list[date]:
    """Drop partitions of earlier days, each detached first without blocking readers and writers.

    Goes on where an earlier call was interrupted. Needs a connection of its own, outside a
    transaction. LockNotAvailableError when a lock is not to be had for 5 s.
    """
    await connection.execute("SET lock_timeout = '5s'")
    dropped = []
    for name, day, attached, detaching in await connection.fetch(_SQL["list_partitions"]):
        if day >= before:
            continue
        if attached:
            how = "FINALIZE" if detaching else "CONCURRENTLY"
            await connection.execute(f"ALTER TABLE log_chunks DETACH PARTITION {name} {how}")
        await connection.execute(f"DROP TABLE {name}")
        dropped.append(day)
    return dropped
