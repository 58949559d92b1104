"""Small things that grow, and large ones, at the real server with its usual settings.

Each is refused by the name of its limit, in bounded memory, while neighbours are served. What each
cost is printed (`pytest -s`): see docs/security.md.
"""

import asyncio
import gzip
import io
import struct
import tempfile
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from api import members
from schema.reports import ReportReply
from schema.tasks import TaskPage
from tests.api import wire
from tests.api.server import MSGPACK, Reply, chunk
from tests.api.test_real_server import Running, started
from tests.conftest import _database

_MIB = 2**20
_MOST = 16 * _MIB
_GZIP_HEAD = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
_X = b'{"command": "x", "needs": ["nobody"]}'
_TRIES = 5
_NEIGHBOUR_S = 1.0  # of a busy machine; the figures of a quiet one are in docs/security.md


@pytest.fixture(scope="module")
async def real(cluster: str, template: str) -> AsyncIterator[Running]:
    """Start one server as it is started without any setting."""
    with tempfile.TemporaryDirectory() as folder:
        async with _database(cluster, template) as url, started(url, Path(folder)) as one:
            await wire.serves(one)
            yield one


@cache
def _zeros(mib: int) -> bytes:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = deflater.compress(bytes(_MIB)) + deflater.flush(zlib.Z_FULL_FLUSH)
    crc = 0
    for _ in range(mib):
        crc = zlib.crc32(bytes(_MIB), crc)
    end = deflater.flush() + struct.pack("<II", crc, mib * _MIB)
    return _GZIP_HEAD + block * mib + end


def _many(item: bytes) -> bytes:
    return item * (_MOST // len(item) - 10)


def _dynamic_block() -> bytes:
    """A block that says a whole Huffman code, and then nothing: the dearest one for its size."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    deflater.compress(bytes(range(256)) * 2)
    return deflater.flush(zlib.Z_FULL_FLUSH)


_BODIES: dict[str, tuple[Callable[[], bytes], int, str]] = {
    # what it is: the gzip body, the status, a word of the problem
    "a gigabyte of zeros": (lambda: _zeros(1024), 413, "MAX_BODY_BYTES"),
    "a gzip in a gzip": (lambda: gzip.compress(_zeros(1024)), 400, "the body"),
    "members of nothing by the million": (lambda: _many(gzip.compress(b"")), 400, "follows"),
    "a member, then a bomb": (lambda: gzip.compress(_X) + _zeros(1024), 400, "follows"),
    "a size of four gigabytes": (
        lambda: gzip.compress(_X)[:-4] + b"\xff" * 4, 400, "gzip"
    ),
    "stored blocks of nothing": (
        lambda: _GZIP_HEAD + _many(b"\0\0\0\xff\xff"), 400, "truncated"
    ),
    "fixed blocks of nothing": (lambda: _GZIP_HEAD + _many(b"\x02\x0c\x30\xc0"), 400, "gzip"),
    "Huffman codes for little": (lambda: _GZIP_HEAD + _many(_dynamic_block()), 413, ""),
    "a name without an end": (
        lambda: b"\x1f\x8b\x08\x08\0\0\0\0\0\xff" + _many(b"n"), 400, "truncated"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", _BODIES)
async def test_a_gzip_bomb_is_refused(real: Running, name: str) -> None:
    """By its size or its time; a neighbour's request passes meanwhile."""
    make, status, word = _BODIES[name]
    body = make()
    async with wire.watched(real) as toll:
        reply = await _post(real, "/tasks", body, "Content-Encoding", "gzip")
    _say(name, len(body), toll)
    reply.problem(status, word)
    assert toll.grown_mib < 6 * _MOST / _MIB
    assert toll.slowest_s < _NEIGHBOUR_S


def _text(**fields: Any) -> bytes:
    return msgspec.json.encode({"command": "x", "needs": ["nobody"]} | fields)


_JSON: dict[str, tuple[str, Callable[[], bytes], int, str]] = {
    "a command of 10 MB": ("/tasks", lambda: _text(command="x" * 10**7), 400, "$.command"),
    "100,000 labels": ("/tasks", lambda: _text(needs=["x"] * 100_000), 400, "$.needs"),
    "100,000 variables": (
        "/tasks", lambda: _text(env={f"A{at}": "" for at in range(100_000)}), 400, "$.env"
    ),
    "variables of 10 MB": (
        "/tasks", lambda: _text(env={f"A{at}": "x" * 100_000 for at in range(100)}), 400, "$.env"
    ),
    "10,001 tasks": ("/tasks", lambda: _array(_X, 10_001), 413, "MAX_TASKS"),
    "as many tasks as fit": ("/tasks", lambda: _array(_X, 400_000), 413, "MAX_JSON_VALUES"),
    "variables without end": (
        "/tasks", lambda: b'{"command":"x","env":{' + _many(b'"a":"",') + b'"a":""}}', 413,
        "MAX_JSON_VALUES",
    ),
    "labels to just below the limit": (
        "/tasks", lambda: b'{"command":"x","needs":[' + b'"a",' * 499_990 + b'"a"]}', 400,
        "$.needs",
    ),
    "variables to just below the limit": (
        "/tasks",
        lambda: b'{"command":"x","needs":["nobody"],"env":{' + b'"a":"",' * 499_980 + b'"a":""}}',
        201, "",
    ),
    "held without end": (
        "/beats", lambda: b'{"session":"x","held":[' + _many(b"[1,1],") + b"[1,1]]}", 413,
        "MAX_SMALL_BODY_BYTES",
    ),
    "held to just below the limit": (
        "/beats", lambda: b'{"session":"x","held":[' + b"[1,1]," * 166_000 + b"[1,1]]}", 400,
        "$.held",
    ),
    "labels of an agent": (
        "/sessions", lambda: b'{"agent":"x","labels":[' + b'"a",' * 260_000 + b'"a"]}', 400,
        "$.labels",
    ),
    "results without end": (
        "/reports",
        lambda: b'{"session":"x","results":['
        + b'{"lease":"","reason":"exit"},' * 400_000 + b'{"lease":"","reason":"exit"}]}',
        413, "MAX_JSON_VALUES",
    ),
    "a body of too much": ("/tasks", lambda: b" " * (_MOST + 1), 413, "MAX_BODY_BYTES"),
    "nothing but arrays": ("/tasks", lambda: b"[" * (_MOST - 1), 413, "MAX_JSON_VALUES"),
    "arrays in arrays": (
        "/beats", lambda: b'{"session":"x","new":' + b"[" * 400_000, 400, "nested too deep"
    ),
    "a form": ("/login", lambda: b"token=" + b"x" * 30_000, 413, "4096"),
    "a form of the console": (
        "/console/group/cancel", lambda: b"name=" + b"x" * 30_000, 413, "16384"
    ),
}  # fmt: skip


def _array(item: bytes, number: int) -> bytes:
    return b"[" + b",".join([item] * number) + b"]"


@pytest.mark.parametrize("name", _JSON)
async def test_more_than_there_may_be_is_refused(real: Running, name: str) -> None:
    """Whatever is counted, in text that must be decoded before it can be."""
    path, make, status, word = _JSON[name]
    body = make()
    async with wire.watched(real) as toll:
        reply = await _post(real, path, body, "Content-Type", "application/json")
    _say(name, len(body), toll)
    if status >= 400:
        reply.problem(status, word)
    assert reply.status == status
    assert toll.grown_mib < 12 * _MOST / _MIB
    assert toll.slowest_s < _NEIGHBOUR_S


async def test_a_chunk_that_is_a_bomb_loses_no_neighbour(real: Running) -> None:
    """One more than a mebibyte, or a gigabyte, is refused by itself; the good one is stored."""
    session, task = await real.api.started()
    chunks = [
        chunk(task.lease, b"good\n"),
        chunk(task.lease, b"", offset=5) | {"content": _zeros(1024)},
        chunk(task.lease, bytes(_MIB + 1), offset=5),
        chunk(task.lease, b"", offset=5) | {"content": gzip.compress(b"x") * 2},
        chunk(task.lease, b"", offset=5) | {"content": gzip.compress(_zeros(16))},
    ]
    async with wire.watched(real) as toll:
        verdicts = await real.api.report(session, chunks)
    _say("chunks that are bombs", 0, toll)
    assert verdicts == ["ok", "invalid", "invalid", "invalid", "ok"]  # a gzip file is a log, too
    assert toll.grown_mib < 50


async def test_a_report_of_ten_gigabytes_is_bounded_by_its_time(real: Running) -> None:
    """Ten thousand chunks of a mebibyte of zeros have 10 MB: whoever has a lease may send them."""
    session, task = await real.api.started()
    content = members.deflate(bytes(_MIB))
    many = [
        {"lease": task.lease, "stream": "stdout", "offset": at * _MIB, "content": content}
        for at in range(10_000)
    ]
    body = msgspec.msgpack.encode({"session": session, "chunks": many})
    async with wire.watched(real) as toll:
        reply = await _post(real, "/reports", body, "Content-Type", MSGPACK)
    _say("a report of ten gigabytes", len(body), toll)
    if reply.status == 200:
        assert {each.verdict for each in reply.as_(ReportReply).chunks} == {"ok"}
    else:
        reply.problem(413, "INFLATE_S")
    assert toll.grown_mib < 200


async def test_bodies_of_many_at_once_share_the_room(real: Running) -> None:
    """Sixty of 15 MB: they wait in turn, and small ones pass."""
    body = b'{"command": "x", "needs": ["nobody"], "name": 5, "cwd": "' + b"x" * 15_000_000 + b'"}'
    async with wire.watched(real) as toll:
        replies = await asyncio.gather(
            *(_post(real, "/tasks", body, "Content-Type", "application/json") for _ in range(60))
        )
    _say("sixty bodies of 15 MB", 60 * len(body), toll)
    assert {reply.status for reply in replies} <= {400, 503}
    assert toll.grown_mib < 2 * 256
    assert toll.slowest_s < 10  # it shares two cores with whoever sends a gigabyte


async def test_a_stream_without_end_is_cut(real: Running) -> None:
    """In chunks that are well formed, each of them; gzip that never stops, or text."""
    for name, encoding in (("text", "identity"), ("gzip", "gzip")):
        deflater = zlib.compressobj(0, zlib.DEFLATED, 31)
        sent = 0

        def pieces(packs: Any = deflater, *, packed: bool = name == "gzip") -> Iterator[bytes]:
            nonlocal sent
            while sent < 64 * _MIB:
                piece = packs.compress(bytes(65_536)) if packed else b" " * 65_536
                sent += len(piece)
                if piece:
                    yield b"%x\r\n%b\r\n" % (len(piece), piece)

        start = wire.head(
            "POST", "/tasks", "Transfer-Encoding: chunked", f"Content-Encoding: {encoding}"
        )
        async with wire.watched(real) as toll:
            received = await wire.talk(real.port, start, *pieces())
        _say(f"{name} without end", sent, toll)
        assert wire.statuses(received) in ([413], [])  # reset, where it had more to say
        assert toll.grown_mib < 80


async def test_a_page_of_large_tasks_is_short(real: Running) -> None:
    """A thousand may be asked for, and one may have 0.6 MB; the next page has the others."""
    env = {f"A{at}": "x" * 100_000 for at in range(5)}
    large = _text(command="x" * 100_000, env=env, group="large")
    for _ in range(150):
        reply = await _post(real, "/tasks", large, "Content-Type", "application/json")
        assert reply.status == 201
    async with wire.watched(real) as toll:
        seen: list[int] = []
        cursor = ""
        pages = 0
        while pages == 0 or cursor:
            query = "/tasks?group=large&limit=1000" + (f"&cursor={cursor}" if cursor else "")
            page = (await real.api.call("GET", query)).as_(TaskPage)
            seen += [task.id for task in page.tasks]
            cursor = page.next or ""
            pages += 1
        named = "&".join(f"id={number}" for number in seen)
        (await real.api.call("GET", f"/tasks?{named}")).problem(400, "id", "name fewer")
    _say("a page of large tasks", 0, toll)
    assert len(set(seen)) == len(seen) == 150
    assert pages > 5
    assert toll.grown_mib < 150


async def test_long_queries_and_paths_are_not_kept(real: Running) -> None:
    """Litestar remembers the last 1,024 of each that it has taken apart."""
    async with wire.watched(real) as toll:
        for at in range(200):
            query = f"{at}&" + "=&" * 16_000 if at % 2 else f"{at}=" + "x" * 32_000
            assert (await real.api.call("GET", f"/tokens?{query}")).status == 200
    async with wire.watched(real) as after:
        for at in range(200):
            await real.api.call("GET", "/groups/" + f"{at}" + "x" * 4000)
    _say("long queries", 0, toll)
    _say("long paths", 0, after)
    assert toll.grown_mib < 30
    assert after.grown_mib < 30


async def test_large_bodies_leave_no_memory_behind(real: Running) -> None:
    """A worker that grew with each would end some day."""
    body = _array(_X, 9000)
    for _ in range(3):
        assert (await _post(real, "/tasks", body, "Content-Type", "application/json")).status == 201
    before = wire.resident_mib(real)
    for _ in range(10):
        assert (await _post(real, "/tasks", body, "Content-Type", "application/json")).status == 201
    grown = wire.resident_mib(real) - before
    print(f"\nten submissions of 9,000 tasks more: {grown:.1f} MiB")
    assert grown < 60


async def _post(real: Running, path: str, body: bytes, name: str, value: str) -> Reply:
    """Who is refused before all is sent may see the connection end instead of the answer."""
    for _ in range(_TRIES):
        with suppress(aiohttp.ClientOSError):
            return await real.api.call("POST", path, data=io.BytesIO(body), headers={name: value})
    raise AssertionError(f"no answer to {len(body)} bytes for {path}, {_TRIES} times")


def _say(name: str, size: int, toll: wire.Toll) -> None:
    print(
        f"\n{name}: {size / _MIB:.2f} MiB sent; the worker grew by {toll.grown_mib:.0f} MiB to"
        f" {toll.peak_mib:.0f}; a neighbour waited {toll.slowest_s * 1000:.0f} ms at most"
    )
