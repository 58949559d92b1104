"""Reading logs: how many MB of log a second one reader gets or searches, and how soon some lines.

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
_MIDDLE = 40_000 if QUICK else 300_000


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


@pytest.mark.parametrize(
    "query", ["grep=no+such+text", "grep=no*such*text&wildcards=true&ignore_case=true"],
    ids=["a text", "wildcards, any case"],
)  # fmt: skip
def test_searching_a_log(meter: Meter, reader: Reader, log: Log, query: str) -> None:
    """MB of log a second, both streams, where nothing is found."""
    path = f"/tasks/{log.task}/logs?{query}"
    meter.rounds(lambda: reader.read(path), lambda: None)
    per_s = meter.rate("MB", log.size) / 1e6
    meter.info |= {"per_s": round(per_s), "log_mb_per_s": round(per_s, 1)}
    meter.waits(reader.waits_s)


def test_reading_a_page(meter: Meter, reader: Reader, log: Log) -> None:
    """How long it takes to see a hundred lines in the middle, by the number of the first one."""
    path = f"/tasks/{log.task}/logs/lines?line={_MIDDLE}&lines=100"
    sizes: set[int] = set()
    meter.rounds(lambda: sizes.add(reader.read(path, None)), lambda: None, count=meter.size(_TAILS))
    assert min(sizes) > 100 * 100, "the log has fewer lines"
    meter.rate("pages", 1)
    meter.waits(reader.waits_s)


def test_reading_a_tail(meter: Meter, reader: Reader, log: Log) -> None:
    """How long it takes to see the last hundred lines of both streams."""
    path = f"/tasks/{log.task}/logs?tail=100"
    meter.rounds(lambda: reader.read(path), lambda: None, count=meter.size(_TAILS))
    meter.rate("tails", 1)
    meter.waits(reader.waits_s)
