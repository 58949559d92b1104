"""Logs that are there to be read, and who reads them.

They are of varied lines, 512 KiB a chunk, both streams at the same time, each written in blocks of
4 KiB: as a C library does it for a pipe, and as fine as merging has to be.
"""

import asyncio
import http.client
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvloop
from msgspec import Struct

from benchmarks import uploaders
from benchmarks.server import BenchServer
from benchmarks.uploaders import Uploader
from loadtest import payloads
from schema.marks import Mark
from schema.tasks import Stream

_PAYLOAD = payloads.real(512 * 1024)
_CONTENT = payloads.member(uploaders.HEAD, _PAYLOAD)
_CHUNK_BYTES = len(uploaders.HEAD) + len(_PAYLOAD.data)
_AT_ONCE = 2  # chunks of a report: few, so that the worker that takes them stays small
_BLOCK_BYTES = 4096
_BLOCK_US = 1000  # from one block of a stream to its next one
_STARTED_US = 1_767_225_600_000_000  # in 2026


class Log(Struct, frozen=True):
    """A whole log that is stored."""

    task: int
    size: int
    """Bytes of both streams."""
    stored: int
    """Bytes of one stream in gzip."""


class Reader:
    """One keep-alive connection that reads answers and keeps nothing of them."""

    def __init__(self, server: BenchServer) -> None:
        self.waits_s: list[float] = []
        """How long each answer took, to its end."""
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port)
        self._room = memoryview(bytearray(256 * 1024))

    def read(self, path: str, state: str | None = "complete") -> int:
        """Bytes of the answer, which must say of itself that it is whole, where it says so."""
        start = time.perf_counter()
        self._connection.request("GET", path)
        answer = self._connection.getresponse()
        assert answer.status == http.HTTPStatus.OK, answer.read()
        assert answer.headers["Log-State"] == state
        size = 0
        while count := answer.readinto(self._room):
            size += count
        self.waits_s.append(time.perf_counter() - start)
        return size

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


def _times(stream: Stream, number: int, size: int) -> list[Mark]:
    """Blocks of the two streams in turns."""
    start_us = _STARTED_US + (stream == "stderr") * _BLOCK_US // 2
    first = number * (_CHUNK_BYTES // _BLOCK_BYTES + 1)
    return [
        (offset, start_us + (first + block) * _BLOCK_US)
        for block, offset in enumerate(range(0, size, _BLOCK_BYTES))
    ]


async def _upload(one: Uploader, chunks: int) -> None:
    streams: tuple[Stream, ...] = ("stdout", "stderr")
    for _ in range(chunks // 2 // _AT_ONCE):
        for stream in streams:
            await one.report(_PAYLOAD, _CONTENT, _AT_ONCE, stream=stream, times=_times)
    await one.finish()


@contextmanager
def stored(server: BenchServer, chunks: int) -> Iterator[Log]:
    """Upload a log of so many chunks; take it away in the end."""
    with (
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        uploaders.connected(runner, server, 1, compatible=False) as some,
    ):
        some.repeat(1, lambda one: _upload(one, chunks))
        yield Log(some.all[0].task, chunks * _CHUNK_BYTES, chunks // 2 * len(_CONTENT))
