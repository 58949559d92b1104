"""What one attempt writes, on its way from its pipes to the outbox."""

from typing import NamedTuple

from agent.abridging import Abridging
from agent.forms import Forms
from agent.outbox import Outbox
from agent.parcels import Delivery
from agent.redacting import Redactor
from agent.spooler import WAIT_S
from agent.streams import Cut, MarkClock, StreamBuffer
from schema.reports import StreamTotal
from schema.tasks import Stream


class Bounds(NamedTuple):
    """In bytes."""

    chunk_bytes: int
    log_bytes: int
    """What the log of an attempt may hold."""


class Output:
    """Both streams of one attempt: secrets go out, then what is too much, then it becomes chunks.

    So all offsets, times and totals are those of what is left.
    """

    def __init__(
        self, delivery: Delivery, outbox: Outbox, bounds: Bounds, secrets: Forms | None
    ) -> None:
        clock = MarkClock()
        self._delivery = delivery
        self._outbox = outbox
        self._abridging = Abridging(bounds.log_bytes)
        self._streams: dict[Stream, StreamBuffer] = {
            "stdout": StreamBuffer(clock, bounds.chunk_bytes),
            "stderr": StreamBuffer(clock, bounds.chunk_bytes),
        }
        self._redactors: dict[Stream, Redactor] = (
            {} if secrets is None else {stream: Redactor(secrets) for stream in self._streams}
        )

    def take(self, stream: Stream, data: bytes, now_us: int, now_s: float) -> None:
        """Take what was read; times as for StreamBuffer.append."""
        if self._redactors:
            data = self._redactors[stream].take(data, now_s)
        self._add(stream, data, now_us, now_s)

    def _add(self, stream: Stream, data: bytes, now_us: int, now_s: float) -> None:
        if data and (head := self._abridging.take(stream, data, now_us)):
            self._append(stream, head, now_us, now_s)

    def _append(self, stream: Stream, data: bytes, now_us: int, now_s: float) -> None:
        full = self._streams[stream].append(data, now_us, now_s)
        if full:
            others = self._cut(*(each for each in self._streams if each != stream))
            self._outbox.add(self._delivery, [*((stream, cut) for cut in full), *others])

    def _cut(self, *streams: Stream) -> list[tuple[Stream, Cut]]:
        cuts = ((stream, self._streams[stream].flush()) for stream in streams)
        return [(stream, cut) for stream, cut in cuts if cut is not None]

    def _flush(self) -> None:
        # Both streams: who watches can sort only what comes together.
        if cuts := self._cut(*self._streams):
            self._outbox.add(self._delivery, cuts)

    def tick(self, now_us: int, now_s: float, flush_s: float) -> None:
        """Cut what has waited for `flush_s`, and let the disk have what is due there."""
        old_s = now_s - flush_s
        for stream, redactor in self._redactors.items():
            if data := redactor.release_older(old_s):
                self._add(stream, data, now_us, now_s)
        if any(buffer.older(old_s) for buffer in self._streams.values()):
            self._flush()
        elif self._outbox.keeps_tails:
            for stream, buffer in self._streams.items():
                if tail := buffer.tail_older(now_s - WAIT_S):
                    self._outbox.keep_tail(self._delivery, stream, tail)

    def end(self, now_us: int, now_s: float) -> dict[Stream, StreamTotal]:
        """Hand over the rest; what there was in all."""
        for stream, redactor in self._redactors.items():
            self._add(stream, redactor.end(), now_us, now_s)
        for stream, piece in self._abridging.rest():
            self._append(stream, piece.data, piece.time_us, now_s)
        self._flush()
        return {
            stream: buffer.total(self._abridging.left_out(stream))
            for stream, buffer in self._streams.items()
        }
