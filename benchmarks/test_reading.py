"""Reading logs: how many MB of log a second one reader gets, and how soon the last lines.

See `benchmarks.reading` for the log.
"""

import contextlib
from collections.abc import Iterator

import pytest

from benchmarks import reading
from benchmarks.conftest import QUICK, Meter
from benchmarks.reading import Log, Reader
from benchmarks.server import BenchServer

_CHUNKS = 16 if QUICK else 128  # 64 MiB over both streams
_TAILS = 200


@pytest.fixture(scope="module")
def log(server: BenchServer) -> Iterator[Log]:
    """Upload a log."""
    with reading.stored(server, _CHUNKS) as one:
        yield one


@pytest.fixture
def reader(server: BenchServer) -> Iterator[Reader]:
    """Connect one."""
    with contextlib.closing(Reader(server)) as one:
        yield one


@pytest.mark.parametrize(
    ("path", "streams"),
    [("logs", 2), ("logs?stream=stdout", 1), ("logs.gz?stream=stdout", 1)],
    ids=["merged", "one stream", "one stream as gzip"],
)
def test_reading_a_log(meter: Meter, reader: Reader, log: Log, path: str, streams: int) -> None:
    """MB of log a second, from the first line to the last; of gzip, MB that it inflates to."""
    size = log.size * streams // 2
    sizes: set[int] = set()
    meter.rounds(lambda: sizes.add(reader.read(f"/tasks/{log.task}/{path}")), lambda: None)
    per_s = meter.rate("MB", size) / 1e6
    meter.info |= {"per_s": round(per_s), "log_mb_per_s": round(per_s, 1)}
    meter.waits(reader.waits_s)
    assert sizes == ({log.stored} if "gz" in path else {size})


def test_reading_a_tail(meter: Meter, reader: Reader, log: Log) -> None:
    """How long it takes to see the last hundred lines of both streams."""
    path = f"/tasks/{log.task}/logs?tail=100"
    meter.rounds(lambda: reader.read(path), lambda: None, count=meter.size(_TAILS))
    meter.rate("tails", 1)
    meter.waits(reader.waits_s)
