"""Where a viewer of live logs is: the ids of events, to the byte of both streams."""

import re
from typing import Literal

from msgspec import Struct

from api.merging import Block
from schema.tasks import Stream


class BadPositionError(ValueError):
    """The text is no position."""


class Position(Struct, frozen=True):
    """How much of a task was told to a viewer. Written `attempt.stdout.stderr.lines`."""

    attempt: int = 0
    """0: before the first one."""
    stdout: int = 0
    """Bytes sent of that attempt."""
    stderr: int = 0
    lines: int = 0
    """Lines of that attempt that are over, of the streams that the viewer sees."""
    told: Literal["", "log", "end"] = ""
    """Beyond the bytes: how whole that attempt's log is, or that the task has ended."""

    def offset(self, stream: Stream) -> int:
        """Bytes sent of one stream."""
        return self.stdout if stream == "stdout" else self.stderr

    def after(self, block: Block) -> "Position":
        """Behind the bytes of a block."""
        end = block.offset + len(block.data)
        stdout, stderr = self.stdout, self.stderr
        if block.stream == "stdout":
            stdout = end
        else:
            stderr = end
        ends = 0 if block.open else block.ends
        return Position(self.attempt, stdout, stderr, self.lines + ends, self.told)

    def __str__(self) -> str:
        text = f"{self.attempt}.{self.stdout}.{self.stderr}.{self.lines}"
        return f"{text}.{self.told}" if self.told else text


_TEXT = re.compile(r"([0-9]{1,9})\.([0-9]{1,18})\.([0-9]{1,18})\.([0-9]{1,18})(?:\.(log|end))?")
_TOLD: dict[str, Literal["", "log", "end"]] = {"": "", "log": "log", "end": "end"}


def parse(text: str) -> Position:
    """Read what `str` wrote; BadPositionError."""
    found = _TEXT.fullmatch(text)
    if found is None:
        raise BadPositionError(
            f"{text!r:.100} is not a position in a task's log: use the id of an event"
        )
    attempt, stdout, stderr, lines, told = found.groups("")
    return Position(int(attempt), int(stdout), int(stderr), int(lines), _TOLD[told])
