"""Counters of what the API does, over all workers of a server."""

import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from schema.tasks import Status

MEDIA_TYPE = CONTENT_TYPE_LATEST

SUBMITTED = Counter("dw_tasks_submitted", "Tasks stored")
CLAIMED = Counter("dw_tasks_claimed", "Attempts given to agents")
CHUNKS = Counter("dw_log_chunks", "Log chunks by verdict", ["verdict"])
CHUNK_BYTES = Counter("dw_log_bytes", "Log bytes received, inflated")
RESULTS = Counter("dw_results", "Results by verdict", ["verdict"])
WAITING = Gauge(
    "dw_waiting", "Waiting requests, including parked claims", ["what"], multiprocess_mode="livesum"
)
DENIED = Counter("dw_denied", "Requests refused for lack of a token or role", ["status"])
LOST = Counter("dw_attempts_lost", "Attempts whose agent was lost")


_OPEN: tuple[Status, ...] = ("pending", "scheduled", "in_progress")


class _Queue(Collector):
    def __init__(self, depth: Mapping[Status, int]) -> None:
        self._depth = depth

    def collect(self) -> list[GaugeMetricFamily]:
        """Tasks that have not ended, as the database counts them at this moment."""
        gauge = GaugeMetricFamily("dw_tasks", "Tasks that have not ended", labels=["status"])
        for status in _OPEN:
            gauge.add_metric([status], self._depth.get(status, 0))
        return [gauge]


def _forget_dead(folder: Path) -> None:
    """What a dead worker's gauges say is over."""
    for file in folder.glob("gauge_live*_*.db"):
        pid = int(file.stem.rpartition("_")[2])
        if not Path(f"/proc/{pid}").exists():
            mark_process_dead(pid)  # type: ignore[no-untyped-call]  # untyped in the package


async def watch_depths(depths: Mapping[str, Callable[[], int]]) -> None:
    """Show how much waits, once a second, until cancelled."""
    while True:
        for what, depth in depths.items():
            WAITING.labels(what).set(depth())
        await asyncio.sleep(1)


def exposition(depth: Mapping[Status, int]) -> bytes:
    """All counters, and the queue, in Prometheus' text form."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        _forget_dead(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]))
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # untyped in the package
    else:
        registry = REGISTRY
    queue = CollectorRegistry()
    queue.register(_Queue(depth))
    return generate_latest(registry) + generate_latest(queue)
