"""Output whose every byte is known beforehand.

`python -m client.demo.output NAME` writes it, as a task; the demo compares what came back.
"""

import random
import sys
from collections.abc import Callable, Iterator

CHATTY_LINES = 80_000
_BINARY_BYTES = 300_000
_BOTH_LINES = 500
_PRIME = 2_654_435_761  # Knuth's multiplicative hash: lines that differ, the same on each run


def chatty() -> Iterator[tuple[bytes, bytes]]:
    """Write some five megabytes of log lines to stdout."""
    for number in range(CHATTY_LINES):
        mixed = number * _PRIME % 2**32
        line = f"{number:06} {mixed:08x} level=info device=pixel-{mixed % 9} step={mixed % 977}"
        yield f"{line}\n".encode(), b""


def binary() -> Iterator[tuple[bytes, bytes]]:
    """Write bytes that are no text, with no newline at the end."""
    yield bytes(range(256)), b""
    yield random.Random(7).randbytes(_BINARY_BYTES), b""  # noqa: S311 - to be the same each time


def both() -> Iterator[tuple[bytes, bytes]]:
    """Write to the streams in turn."""
    for number in range(_BOTH_LINES):
        if number % 3:
            yield f"out {number}\n".encode(), b""
        else:
            yield b"", f"err {number}\n".encode()


OUTPUTS: dict[str, Callable[[], Iterator[tuple[bytes, bytes]]]] = {
    "chatty": chatty,
    "binary": binary,
    "both": both,
}


def whole(name: str) -> tuple[bytes, bytes]:
    """All of stdout, all of stderr."""
    pieces = list(OUTPUTS[name]())
    return b"".join(out for out, _ in pieces), b"".join(err for _, err in pieces)


if __name__ == "__main__":
    for out, err in OUTPUTS[sys.argv[1]]():
        # Each piece at once, so that the order of the streams is a real one.
        for stream, data in ((sys.stdout.buffer, out), (sys.stderr.buffer, err)):
            if data:
                stream.write(data)
                stream.flush()
