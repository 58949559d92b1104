"""`POST /reports`: log chunks and results of many tasks in one request.

The body is one `Report`, as msgpack (`application/msgpack`) or JSON, where bytes are base64.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from schema.claims import SessionId
from schema.tasks import Reason, Stream

MAX_CHUNK_BYTES = 1_048_576
"""Log bytes of one chunk, inflated. Agents cut at half of it."""

MIN_LOG_BYTES = 65_536
"""The least that a log may be limited to."""

MAX_MESSAGE_CHARS = 1000
"""Of a result's message."""


class LogChunk(Struct, frozen=True, kw_only=True):
    """A piece of one stream of one attempt."""

    lease: str
    stream: Stream
    offset: Annotated[int, Meta(ge=0, le=2**62)]
    """Where it starts in the stream, in bytes."""
    content: bytes
    """Exactly one gzip member. Stored as it is."""
    marks: bytes = b""
    """When each piece was read: see `schema.marks`."""
    resent: bool = False
    """It may have been stored already: an earlier reply was lost."""


class StreamTotal(Struct, frozen=True, omit_defaults=True):
    """All that the attempt wrote to one stream, and that its log shall have."""

    bytes: Annotated[int, Meta(ge=0, le=2**62)]
    crc: Annotated[int, Meta(ge=0, le=2**32 - 1)]
    """CRC-32 of all bytes, as in gzip."""
    left_out: Annotated[int, Meta(ge=0, le=2**62)] = 0
    """Bytes in the middle that the agent dropped: a log may hold no more. A line in it says so."""


class Result(Struct, frozen=True, kw_only=True):
    """How an attempt ended. Committed after its logs, or with them."""

    lease: str
    reason: Reason
    exit_code: Annotated[int, Meta(ge=-(2**31), le=2**32 - 1)] | None = None
    """With reason `exit`."""
    signal: Annotated[int, Meta(ge=1, le=255)] | None = None
    """With reason `signal`; also where a timeout or a cancellation ended the process by one."""
    message: Annotated[str, Meta(max_length=MAX_MESSAGE_CHARS)] | None = None
    """For people, where the reason does not say enough."""
    run_s: Annotated[float, Meta(ge=0, le=1e9)] | None = None
    stdout: StreamTotal | None = None
    stderr: StreamTotal | None = None
    """Null where the agent cannot tell."""


class Report(Struct, frozen=True, kw_only=True):
    """One request of the agent's report loop."""

    session: SessionId
    chunks: Annotated[tuple[LogChunk, ...], Meta(max_length=10_000)] = ()
    results: Annotated[tuple[Result, ...], Meta(max_length=10_000)] = ()


VerdictName = Literal["ok", "duplicate", "stale", "gone", "conflict", "invalid"]


class Verdict(Struct, frozen=True, omit_defaults=True):
    """What became of one item.

    ok: committed · duplicate: it was committed before · stale: another attempt counts ·
    gone: retention took that day · conflict: other bytes are stored there, or a chunk of the same
    attempt in the same report was refused · invalid: it can never be accepted.
    """

    verdict: VerdictName
    why: str | None = None


class ReportReply(Struct, frozen=True):
    """One verdict per item, in the order of the request."""

    chunks: tuple[Verdict, ...]
    results: tuple[Verdict, ...]


class CompatLogs(Struct, frozen=True):
    """Body of the compatible `POST /tasks/{id}/logs`: lines joined by newlines."""

    kind: Stream
    index: Annotated[int, Meta(ge=0, le=2**31)]
    """Number of the batch in its stream, from 0."""
    content: str


class CompatStatus(Struct, frozen=True):
    """Body of the compatible `PATCH /tasks/{id}/status`."""

    status: Literal["succeeded", "failed"]
