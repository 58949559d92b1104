"""Uploads: how many log chunks a second are taken, and what part of a bare COPY that is.

*seed* is one line repeated to 512 KiB, *real* 512 KiB of varied lines (132 KB gzip), *small* 20
lines; small ones come 16 in a report, on the compatible route one in a request.
"""

import asyncio

import pytest

from benchmarks import limits, uploaders
from benchmarks.conftest import Meter
from benchmarks.server import BenchServer
from loadtest import payloads
from loadtest.payloads import Payload

_CLIENTS = 16
_LIMIT_S = 3.0
_PAYLOADS = {
    "seed": payloads.seed(512 * 1024),
    "real": payloads.real(512 * 1024),
    "small": payloads.few_lines(20),
}


def _limit(meter: Meter, runner: asyncio.Runner, server: BenchServer, payload: Payload) -> None:
    content = payloads.member(uploaders.HEAD, payload)
    limit = limits.copies_per_s(server, payload, content, meter.seconds(_LIMIT_S))
    meter.limit(
        "COPY of the same members on 2 connections, rows built as the API does", runner.run(limit)
    )


def _rate(meter: Meter, payload: Payload, chunks: int) -> None:
    rate = meter.rate("chunks", chunks)
    meter.info["log_mb_per_s"] = round(rate * (len(uploaders.HEAD) + len(payload.data)) / 1e6, 1)


@pytest.mark.parametrize(
    ("name", "chunks", "requests"),
    [("seed", 1, 1600), ("real", 1, 480), ("small", 16, 640)],
    ids=_PAYLOADS.keys(),
)
def test_reports(
    meter: Meter,
    runner: asyncio.Runner,
    server: BenchServer,
    name: str,
    chunks: int,
    requests: int,
) -> None:
    """Chunks a second through /reports, acknowledged, so committed."""
    payload = _PAYLOADS[name]
    content = payloads.member(uploaders.HEAD, payload)
    requests = meter.size(requests)
    with uploaders.connected(runner, server, _CLIENTS, compatible=False) as some:
        meter.rounds(
            lambda: some.repeat(requests, lambda one: one.report(payload, content, chunks)),
            some.forget_waits,
        )
        _rate(meter, payload, requests * chunks)
        meter.waits(some.waits_s())
        some.check_stored()
    _limit(meter, runner, server, payload)


@pytest.mark.parametrize(
    ("name", "requests"),
    [("seed", 640), ("real", 320), ("small", 1600)],
    ids=_PAYLOADS.keys(),
)
def test_compatible_logs(
    meter: Meter, runner: asyncio.Runner, server: BenchServer, name: str, requests: int
) -> None:
    """Batches a second through the original system's route: gzipped JSON, one in a request."""
    payload = _PAYLOADS[name]
    requests = meter.size(requests)
    with uploaders.connected(runner, server, _CLIENTS, compatible=True) as some:
        meter.rounds(
            lambda: some.repeat(requests, lambda one: one.post_logs(payload)), some.forget_waits
        )
        _rate(meter, payload, requests)
        meter.waits(some.waits_s())
        some.check_stored()
    _limit(meter, runner, server, payload)
