"""Whoever sends slowly, or not at all, is cut off; whoever reads so takes one of few places."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.api import wire
from tests.api.server import chunk, eventually
from tests.api.test_real_server import Running, started
from tests.api.wire import head, statuses, talk
from tests.conftest import _database

_HEADER_S, _BODY_S, _PAUSE_S, _READS = 1.0, 3.0, 1.0, 3


@pytest.fixture(scope="module")
async def real(cluster: str, template: str) -> AsyncIterator[Running]:
    """Start one server of little patience and little room."""
    with tempfile.TemporaryDirectory() as folder:
        async with (
            _database(cluster, template) as url,
            started(
                url, Path(folder), HEADER_S=str(_HEADER_S), BODY_S=str(_BODY_S),
                BODY_PAUSE_S=str(_PAUSE_S), MAX_LOG_READS=str(_READS), MAX_BODIES_BYTES=str(2**20),
                WORKERS="1",
            ) as one,
        ):  # fmt: skip
            yield one


async def _took(port: int, *pieces: bytes, pause_s: float = 0) -> tuple[bytes, float]:
    """What came back though nothing more was said, and after how long."""
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    begun = loop.time()
    try:
        async with asyncio.timeout(20):
            answer = asyncio.ensure_future(reader.read(-1))
            with suppress(ConnectionError):
                for piece in pieces:
                    writer.write(piece)
                    await asyncio.wait([answer], timeout=pause_s)
                    if answer.done():
                        break
                return await answer, loop.time() - begun
            return b"", loop.time() - begun
    finally:
        writer.close()


async def test_nobody_waits_for_a_head_for_ever(real: Running) -> None:
    """No word, half a head, a byte now and then: cut off after HEADER_S."""
    line = head("GET", "/tasks")
    for pieces, pause_s in (
        ([b""], 0.0),
        ([line[:30]], 0.0),
        ([line[at : at + 1] for at in range(len(line) - 1)], 0.1),
    ):
        received, took_s = await _took(real.port, *pieces, pause_s=pause_s)
        assert statuses(received) in ([], [408]), received
        assert _HEADER_S * 0.5 < took_s < _HEADER_S + 2


async def test_a_connection_that_is_not_used_is_closed(real: Running) -> None:
    """It would take one of the places that there are."""
    kept = head("GET", "/tasks").replace(b"Connection: close\r\n", b"")
    received, took_s = await _took(real.port, kept)
    assert statuses(received) == [200]
    assert took_s < _HEADER_S + 2


async def test_a_body_that_stands_still_is_refused(real: Running) -> None:
    """Named by its setting, long before the whole time is over."""
    start = head("POST", "/tasks", "Content-Length: 100")
    received, took_s = await _took(real.port, start, b'{"comm')
    assert statuses(received) == [408]
    assert b"BODY_PAUSE_S" in received
    assert _PAUSE_S * 0.5 < took_s < _PAUSE_S + 1


async def test_a_body_that_trickles_is_refused(real: Running) -> None:
    """Never still, never done: BODY_S is for all of it."""
    start = head("POST", "/tasks", "Content-Length: 100000")
    received, took_s = await _took(real.port, start, *[b" "] * 200, pause_s=0.1)
    assert statuses(received) == [408]
    assert b"BODY_S" in received
    assert _BODY_S * 0.8 < took_s < _BODY_S + 2


async def test_a_slow_body_that_comes_at_last_is_taken(real: Running) -> None:
    """Patience is for slow lines: pauses below the limit do no harm."""
    body = b'{"command": "true", "needs": ["nobody"]}'
    parts = [body[at : at + 10] for at in range(0, len(body), 10)]
    received = await talk(
        real.port, head("POST", "/tasks", f"Content-Length: {len(body)}"), *parts, pause_s=0.4
    )
    assert statuses(received) == [201]


async def test_silent_senders_of_much_keep_others_waiting_for_a_pause_only(real: Running) -> None:
    """They take the room for large bodies; small ones pass at once, large ones soon."""
    start = head("POST", "/tasks", f"Content-Length: {2**20}")
    session, task = await real.api.started()
    async with asyncio.TaskGroup() as group:
        silent = [group.create_task(_took(real.port, start, b"[")) for _ in range(3)]
        async with wire.watched(real) as toll:
            large = [chunk(task.lease, os.urandom(200_000))]
            verdicts = await asyncio.wait_for(real.api.report(session, large), 10)
        assert verdicts == ["ok"]
    assert toll.slowest_s < 1
    assert {tuple(statuses(each.result()[0])) for each in silent} == {(408,)}


async def test_requests_that_wait_give_their_room_back(real: Running) -> None:
    """A parked claim in chunks may be as large as any, until it has been read."""
    sessions = [await real.api.open("nothing-here") for _ in range(3)]
    writers = []
    for session in sessions:
        _, writer = await asyncio.open_connection("127.0.0.1", real.port)
        body = b'{"session": "%b", "slots": 1, "wait": 30}' % session.encode()
        start = head("POST", "/claims", "Transfer-Encoding: chunked")
        writer.write(start + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
        writers.append(writer)

    async def parked() -> bytes:
        return (await real.api.call("GET", "/metrics")).body

    await eventually(parked, lambda text: b'dw_waiting{what="claims"} 3' in text)
    session, task = await real.api.started()
    large = [chunk(task.lease, os.urandom(800_000))]
    assert await asyncio.wait_for(real.api.report(session, large), 5) == ["ok"]
    for writer in writers:
        writer.close()


async def test_whoever_does_not_read_takes_one_of_few_places(real: Running) -> None:
    """A log of 30 MB whose reader looks at its first page for hours: it holds a little memory."""
    session, task = await real.api.started()
    for at in range(30):
        data = os.urandom(2**20)
        offset = at * 2**20
        assert await real.api.report(session, [chunk(task.lease, data, offset=offset)]) == ["ok"]
    path = f"/tasks/{task.id}/logs.gz?stream=stdout"
    async with wire.watched(real) as toll:
        readers = []
        for _ in range(_READS):
            reader, writer = await asyncio.open_connection("127.0.0.1", real.port, limit=1000)
            writer.write(head("GET", path))
            assert (await reader.read(12)).startswith(b"HTTP/1.1 200")
            readers.append(writer)
        reply = await real.api.call("GET", path)
        reply.problem(429, f"{_READS} logs", "MAX_LOG_READS")
        assert reply.headers["retry-after"] == "5"
        for other in (f"/tasks/{task.id}/logs", "/groups/any/logs"):
            (await real.api.call("GET", other)).problem(429, "MAX_LOG_READS")
    assert toll.grown_mib < 100
    for writer in readers:
        writer.transport.abort()

    async def read() -> int:
        return (await real.api.call("GET", path)).status

    await eventually(read, lambda status: status == 200)
