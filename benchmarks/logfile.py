"""A file of varied lines, for tasks that `cat` it."""

from pathlib import Path

from loadtest import payloads

_BLOCK_BYTES = 4 * 1024 * 1024  # gzip looks back 32 KiB: it sees no repetition


def write(path: Path, size: int) -> None:
    """Write so many bytes, of which no two chunks of 512 KiB are the same."""
    block = payloads.real(min(size, _BLOCK_BYTES)).data
    left = size
    with path.open("wb") as file:
        for number in range(size):
            # A line in front that grows shifts each block against the chunks.
            piece = (b"block %s\n" % (b"-" * (number + 1)) + block)[:left]
            file.write(piece)
            left -= len(piece)
            if not left:
                return
