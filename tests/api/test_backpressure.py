"""Memory stays bounded however much arrives at once: senders are told to wait."""

import asyncio
import os

import msgspec

from tests.api.conftest import StartApi
from tests.api.server import MSGPACK, Api, chunk, exited

_MIB = 1024 * 1024


async def _unfinished(api: Api, size: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Announce a body, and send none of it; returns when the API reads, so has made room for it."""
    connector = api.http.connector
    reader, writer = await asyncio.open_unix_connection(str(getattr(connector, "path", "")))
    head = f"POST /reports HTTP/1.1\r\nHost: localhost\r\nContent-Type: {MSGPACK}\r\n"
    writer.write(f"{head}Content-Length: {size}\r\nExpect: 100-continue\r\n\r\n".encode())
    assert await reader.readline() == b"HTTP/1.1 100 Continue\r\n"
    return reader, writer


async def test_large_bodies_wait_for_room_and_small_ones_do_not(start_api: StartApi) -> None:
    """Sixty bodies of 15 MB in one moment took 1.3 GB; a result must pass by them all the same."""
    async with start_api(max_bodies_bytes=_MIB) as api:
        session, task = await api.started()
        large = msgspec.msgpack.encode(
            {"session": session, "chunks": [chunk(task.lease, os.urandom(200_000))]}
        )
        _, slow = await _unfinished(api, _MIB)
        headers = {"Content-Type": MSGPACK}

        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(api.call("POST", "/reports", data=large, headers=headers))
            assert await api.report(session, [], [exited(task.lease)]) == ["ok"]
            assert not waiting.done()  # the announced body is counted, though none of it came
            slow.close()
            await slow.wait_closed()
            assert (await waiting).status == 200
