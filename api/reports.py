"""Reports: chunks and results of many tasks, verified here, written together, one verdict each.

Leases and gzip members are checked, large ones in a thread; nothing that the wire says of a chunk
is believed.
"""

from collections.abc import Callable
from functools import lru_cache, partial

from msgspec import Struct

from api import members
from api.bodies import Decoder
from api.log_limit import Beyond, CutMarks
from api.members import BadGzipError
from api.store import results as result_store
from api.store.logs import CUT_BY_AGENT, CUT_BY_API, STREAMS, Chunk
from api.store.results import AttemptKey, Ended
from api.writing import CHUNK_REFUSED, OK, Writer, Writes
from schema import lease, marks
from schema.lease import BadLeaseError
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
from schema.tasks import INFRASTRUCTURE, Stream

_LEASES = 8192  # remembered as genuine; some 300 bytes each


_Verified = Chunk | Beyond | Verdict
_Verify = Callable[[LogChunk, float], _Verified]


class _Verifying(Struct, frozen=True):
    decoder: Decoder[Report]
    verify: _Verify
    inflate_s: float

    def decode(self, body: bytes, /) -> "Received":
        report = self.decoder.decode(body)
        until = members.deadline(self.inflate_s)
        return Received(report, [self.verify(chunk, until) for chunk in report.chunks])


class Received(Struct, frozen=True):
    """A report and what became of its chunks where they were looked at."""

    report: Report
    chunks: list[_Verified]


class Reports:
    """Takes reports; returns when all that they say is committed, or refused item by item."""

    def __init__(
        self,
        writer: Writer,
        lease_key: bytes,
        marks: CutMarks,
        *,
        max_log_bytes: int,
        inflate_s: float,
    ) -> None:
        """`max_log_bytes`: of each stream; agents of today keep to it for both together."""
        self._writer = writer
        self._max_log_bytes = max_log_bytes
        self._cut_marks = marks
        self._inflate_s = inflate_s
        # A task that writes a log brings its lease many times; checking it takes 5 us.
        self._proof = lru_cache(_LEASES)(partial(lease.verify, key=lease_key))

    def decoder(self, decoder: Decoder[Report]) -> Decoder[Received]:
        """Decodes a report and verifies its chunks: what a thread does with a large body."""
        return _Verifying(decoder, self._verify, self._inflate_s)

    async def accept(self, received: Received) -> ReportReply:
        """Write one report."""
        report, chunks = received.report, received.chunks
        refused = {
            self._attempt(sent.lease)
            for sent, chunk in zip(report.chunks, chunks, strict=True)
            if isinstance(chunk, Verdict)
        }
        ended = [self._ended(result, refused) for result in report.results]
        beyond = [chunk for chunk in chunks if isinstance(chunk, Beyond)]
        cut = self._cut_marks.due(beyond)
        written = await self._writer.write(
            Writes(
                [chunk for chunk in chunks if isinstance(chunk, Chunk)],
                [each for each in ended if isinstance(each, Ended)],
                any(chunk.resent for chunk in report.chunks),
                cut,
            )
        )
        if cut:
            self._cut_marks.written(beyond)
        chunk_verdicts, ended_verdicts = iter(written.chunks), iter(written.ended)

        def verdict(chunk: _Verified) -> Verdict:
            if isinstance(chunk, Beyond):
                return OK  # its agent can do nothing about it, and its log says so
            return chunk if isinstance(chunk, Verdict) else next(chunk_verdicts)

        return ReportReply(
            tuple(verdict(each) for each in chunks),
            tuple(each if isinstance(each, Verdict) else next(ended_verdicts) for each in ended),
        )

    def _attempt(self, text: str) -> AttemptKey | None:
        try:
            proof = self._proof(text)
        except BadLeaseError:
            return None
        return proof.task, proof.attempt

    def _verify(self, sent: LogChunk, until: float) -> _Verified:
        try:
            proof = self._proof(sent.lease)
            measured = members.measure(sent.content, MAX_CHUNK_BYTES, until)
            marks.check(marks.decode(sent.marks), measured.size)
        except (BadLeaseError, BadGzipError, BadMarksError) as error:
            return Verdict("invalid", str(error))
        if measured.size == 0:
            return Verdict("invalid", "the chunk is empty")
        if sent.offset + measured.size > self._max_log_bytes:
            return Beyond((proof.task, proof.attempt), CUT_BY_API[sent.stream])
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

    def _ended(self, result: Result, refused: set[AttemptKey | None]) -> Ended | Verdict:
        try:
            proof = self._proof(result.lease)
        except BadLeaseError as error:
            return Verdict("invalid", str(error))
        if (proof.task, proof.attempt) in refused:
            return CHUNK_REFUSED
        stdout, stderr = result.stdout, result.stderr
        return Ended(
            task=proof.task,
            attempt=proof.attempt,
            session=proof.session,
            outcome=result_store.outcome_of(result),
            reason=result.reason,
            exit_code=result.exit_code,
            signal=result.signal,
            message=_message(result),
            run_s=result.run_s,
            stdout_bytes=stdout.bytes if stdout else None,
            stdout_crc=stdout.crc if stdout else None,
            stderr_bytes=stderr.bytes if stderr else None,
            stderr_crc=stderr.crc if stderr else None,
            cut=_cut(stdout, "stdout") | _cut(stderr, "stderr"),
        )


def _cut(total: StreamTotal | None, stream: Stream) -> int:
    return CUT_BY_AGENT[stream] if total and total.left_out else 0


def _message(result: Result) -> str | None:
    """For people, who shall not be left to guess why a machine is to blame."""
    message = result.message
    if not message and result.reason in INFRASTRUCTURE:
        return "its agent gave up the task without saying why"
    # PostgreSQL's text has no NUL.
    return None if message is None else message.replace("\0", "\N{REPLACEMENT CHARACTER}")
