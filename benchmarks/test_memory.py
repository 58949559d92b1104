"""Memory: how much of it the API's workers take at most.

While 64 agents upload at once, and while one reader reads a log of a gigabyte, or searches it.
"""

import asyncio
import contextlib
import operator
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from benchmarks import memory, reading, uploaders
from benchmarks import server as servers
from benchmarks.conftest import QUICK, Meter
from benchmarks.reading import Reader
from benchmarks.server import BenchServer
from benchmarks.uploaders import Uploader, Uploaders
from loadtest import payloads

_CLIENTS = 64
_REQUESTS = 640  # of a round; five of them take some seconds
_PAYLOAD = payloads.real(512 * 1024)
_CONTENT = payloads.member(uploaders.HEAD, _PAYLOAD)
_LOG_CHUNKS = 16 if QUICK else 2048  # 1 GiB over both streams


@pytest.fixture
def server(server: BenchServer) -> Iterator[BenchServer]:
    """Start one for each test: what others made a worker take, it may keep."""
    if QUICK:
        yield server
        return
    with servers.start() as own:
        yield own


def _measure(
    meter: Meter,
    server: BenchServer,
    some: Uploaders,
    request: Callable[[Uploader], Coroutine[Any, Any, None]],
) -> None:
    requests = max(meter.size(_REQUESTS), _CLIENTS)
    before = memory.resident(server)
    memory.forget_peaks(server)
    meter.rounds(lambda: some.repeat(requests, request), some.forget_waits)
    meter.rate("chunks", requests)
    meter.waits(some.waits_s())
    meter.info["facts"] = {
        "each API worker before": memory.text(before),
        "each API worker at most": memory.text(memory.peaks(server)),
    }
    some.check_stored()


def test_memory_under_reports(meter: Meter, runner: asyncio.Runner, server: BenchServer) -> None:
    """Chunks of 512 KiB of varied lines through /reports."""
    with uploaders.connected(runner, server, _CLIENTS, compatible=False) as some:
        _measure(meter, server, some, lambda one: one.report(_PAYLOAD, _CONTENT, 1))


def test_memory_under_compatible_logs(
    meter: Meter, runner: asyncio.Runner, server: BenchServer
) -> None:
    """The same through the original system's route, which has to inflate, decode and deflate."""
    with uploaders.connected(runner, server, _CLIENTS, compatible=True) as some:
        _measure(meter, server, some, lambda one: one.post_logs(_PAYLOAD))


@pytest.mark.parametrize("query", ["", "?grep=no+such+text"], ids=["reading", "searching"])
@pytest.mark.timeout(300)
def test_memory_of_reading_a_long_log(meter: Meter, server: BenchServer, query: str) -> None:
    """1 GiB goes through a worker, both streams merged; MB of log a second."""
    with (
        reading.stored(server, _LOG_CHUNKS) as log,
        contextlib.closing(Reader(server)) as reader,
    ):
        before = memory.resident(server)
        memory.forget_peaks(server)
        meter.rounds(lambda: reader.read(f"/tasks/{log.task}/logs{query}"), lambda: None, count=1)
        peaks = memory.peaks(server)
    per_s = meter.rate("MB", log.size) / 1e6
    meter.info |= {"per_s": round(per_s), "log_mb_per_s": round(per_s, 1)}
    meter.waits(reader.waits_s)
    meter.info["facts"] = {
        "log": f"{log.size / 1e6:,.0f} MB",
        "each API worker before": memory.text(before),
        "each API worker at most": memory.text(peaks),
        "a worker's memory grows by": memory.text([max(map(operator.sub, peaks, before))]),
    }
