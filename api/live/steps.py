"""What comes next for a viewer of a task: the one way from a position to the one behind it.

History and live are the same steps. What a step tells depends on the position and on what is stored
alone, so all viewers at one position can share it.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TypeAlias

import msgspec
from msgspec import Struct

from api import merging, texts
from api.live import events
from api.live.chunks import ChunkPlace, Chunks
from api.live.tails import AttemptLog, Tail
from api.merging import Block, Data
from api.positions import Position
from api.store.logs import STREAMS
from schema import marks
from schema.logs import Output, Piece, TaskEnded
from schema.tasks import FINAL, Stream

Streams: TypeAlias = tuple[Stream, ...]

STEP_BYTES = 65_536
"""Of output in one step: a viewer who reads slowly holds no more."""

_encode = msgspec.json.Encoder().encode


class Step(Struct, frozen=True):
    """One event of a task."""

    name: str
    json: bytes
    position: Position
    """Behind it."""

    def event(self) -> bytes:
        """For somebody who watches this task alone."""
        data = b"[%b]" % self.json if self.name == "output" else self.json
        return events.written(self.name, data, self.position)


async def next_step(
    chunks: Chunks, tail: Tail, position: Position, streams: Streams
) -> Step | None:
    """The step behind a position; None while there is nothing to tell."""
    if position.attempt and not position.told:
        return await _in_log(chunks, tail, position, streams)
    seen = tail.seen
    if seen is None:
        return None
    if position.attempt < seen.attempt:
        return await begin(tail, Position(position.attempt + 1))
    if seen.status in FINAL and position.told != "end":
        end = TaskEnded(
            task=seen.task, status=seen.status, attempt=seen.attempt, agent=seen.agent,
            reason=seen.reason, exit_code=seen.exit_code, signal=seen.signal, message=seen.message,
            started_at=seen.started_at, finished_at=seen.finished_at, run_s=seen.run_s,
        )  # fmt: skip
        return Step("end", _encode(end), msgspec.structs.replace(position, told="end"))
    return None


async def begin(tail: Tail, position: Position) -> Step | None:
    """The step that says of which attempt the output behind a position is."""
    log = await tail.log(position.attempt)
    return None if log is None else Step("attempt", _encode(log.begun), position)


async def _in_log(chunks: Chunks, tail: Tail, position: Position, streams: Streams) -> Step | None:
    log = await tail.log(position.attempt)
    if log is None:
        return None
    output = await _output(chunks, log, position, streams)
    if output is not None or log.whole is None:
        return output
    if any(position.offset(each) < log.layouts[each].end for each in streams):
        # Retention dropped it while it was shown: it must not be called complete.
        log = await tail.log_anew(position.attempt) or log
    assert log.whole is not None  # it was, and no attempt begins again
    whole = log.whole.of(streams)
    return Step("log", _encode(whole), msgspec.structs.replace(position, told="log"))


async def tail_position(chunks: Chunks, log: AttemptLog, lines: int, streams: Streams) -> Position:
    """The position before the last lines of a log, at most 8 MiB of them."""
    firsts = [log.layouts[stream].before_tail(lines, merging.LAST_BYTES) for stream in streams]
    if not all(log.layouts[stream].joins for stream in streams):
        firsts = [0] * len(streams)  # nobody counted the lines that end where bytes are missing
    before = sum(
        log.layouts[stream].lines_before(number)
        for stream, number in zip(streams, firsts, strict=True)
    )
    offsets = {stream: log.layouts[stream].end for stream in streams}
    following = sum(log.layouts[stream].all_lines for stream in streams) + 1
    numbers = []
    if lines:
        sources = [
            merging.split(
                stream,
                _stored(chunks, log, stream, log.layouts[stream].begins(number)),
                open_end=log.whole is None,
            )
            for stream, number in zip(streams, firsts, strict=True)
            if len(log.layouts[stream])
        ]
        async with aclosing(merging.last(merging.merge(sources, before + 1), lines)) as blocks:
            async for block in blocks:
                numbers.append(following if block.open else block.line)
                offsets[block.stream] = min(offsets[block.stream], block.offset)
    attempt = log.place.attempt
    first = min(numbers, default=following)
    return Position(attempt, offsets.get("stdout", 0), offsets.get("stderr", 0), first - 1)


async def _output(
    chunks: Chunks, log: AttemptLog, position: Position, streams: Streams
) -> Step | None:
    """Lines by their times, and behind them what is not a line yet."""
    told = _Told(position)
    behind = [stream for stream in streams if position.offset(stream) < log.layouts[stream].end]
    sources = [
        merging.split(
            stream,
            _stored(chunks, log, stream, position.offset(stream)),
            open_end=log.whole is None,
        )
        for stream in behind
    ]
    async with aclosing(merging.merge(sources)) as blocks:
        async for block in blocks:
            told.add(block)
            if told.full:
                break
    if not told.pieces:
        return None
    attempt = log.place.attempt
    output = Output(log.begun.task, attempt, tuple(told.pieces))
    return Step("output", _encode(output), told.position)


class _Told:
    """The pieces of one step."""

    def __init__(self, position: Position) -> None:
        self.position = position
        self.pieces: list[Piece] = []
        self._room = STEP_BYTES

    @property
    def full(self) -> bool:
        """Whether the rest must wait for the next step."""
        return self._room <= 0

    def add(self, block: Block) -> None:
        """Tell as much of it as there is room for."""
        data = block.data[: self._room]
        if len(data) < len(block.data):
            self._room = 0
            cut = data.rfind(b"\n") + 1
            # Only a line that is larger than a step is parted.
            data = data[:cut] if cut or self.pieces else data
        if not data.endswith(b"\n") and (block.open or len(data) < len(block.data)):
            data = data[: texts.whole(data)]
        if not data:
            return
        whole = len(data) == len(block.data)
        part = block if whole else msgspec.structs.replace(block, data=data, over=False)
        text, exact = texts.decoded(data)
        self.pieces.append(
            Piece(
                stream=block.stream,
                offset=block.offset,
                at_us=block.time_us,
                line=self.position.lines + 1,
                text=text,
                base64=exact,
                open=not data.endswith(b"\n") and (part.open or not part.over),
            )
        )
        self.position = self.position.after(part)
        self._room -= len(data)


async def _stored(
    chunks: Chunks, log: AttemptLog, stream: Stream, offset: int
) -> AsyncGenerator[Data, None]:
    """What is stored of a stream from a byte on."""
    layout, place = log.layouts[stream], log.place
    for number in range(layout.number(offset), len(layout)):
        position, size, start = layout.place(number)
        begins = max(layout.begins(number), offset)
        skipped = begins - start
        if skipped >= size:
            continue
        chunk = await chunks.get(
            ChunkPlace(place.day, log.begun.task, place.attempt, STREAMS[stream], position, size)
        )
        if chunk is None:
            return  # retention came between
        if skipped:
            yield begins, chunk.data[skipped:], marks.behind(chunk.times, skipped)
        else:
            yield begins, chunk.data, chunk.times
