"""The proxy between the machines of a campaign: its weather, and that it changes no byte."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from loadtest.chaos import programs
from loadtest.chaos.proxy import Address, Proxy

_DATA = random.Random(3).randbytes(3_000_000)

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Upstream:
    """Sends back what it gets, and notes it; or says `greeting` to each who comes."""

    def __init__(self) -> None:
        self.got = bytearray()
        self.greeting = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Handle one connection."""
        with suppress(ConnectionError):
            if self.greeting:
                writer.write(self.greeting)
            while data := await reader.read(65_536):
                self.got += data
                if not self.greeting:
                    writer.write(data)
                    await writer.drain()
            writer.close()


@pytest.fixture
async def upstream(short_folder: Path) -> AsyncIterator[tuple[Upstream, str]]:
    """Listen on a unix socket, as PostgreSQL does."""
    one = Upstream()
    address = str(short_folder / "echo.sock")
    async with await asyncio.start_unix_server(one.serve, address):
        yield one, address


@pytest.fixture
async def proxy(upstream: tuple[Upstream, str]) -> AsyncIterator[Proxy]:
    """Start a proxy in front of it, after an upstream that nobody listens on."""
    addresses: list[Address] = [("127.0.0.1", 1), upstream[1]]
    async with (
        asyncio.TaskGroup() as group,
        Proxy("link", programs.free_port(), group, lambda: addresses) as one,
    ):
        yield one


async def _connect(proxy: Proxy) -> Ends:
    return await asyncio.open_connection("127.0.0.1", proxy.port)


async def _read_all(reader: asyncio.StreamReader) -> bytes:
    """Read until the end, however it comes."""
    got = bytearray()
    with suppress(ConnectionError):
        while data := await reader.read(65_536):
            got += data
    return bytes(got)


async def _until(true: Callable[[], bool], what: str) -> None:
    try:
        async with asyncio.timeout(10):
            while not true():
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"never came true: {what}") from None


async def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    with suppress(ConnectionError):
        writer.write(data)
        await writer.drain()


async def test_all_bytes_pass_both_ways(proxy: Proxy) -> None:
    """And the end of one direction leaves the other one open."""
    reader, writer = await _connect(proxy)
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(_read_all(reader))
        await _write(writer, _DATA)
        writer.write_eof()
    assert reading.result() == _DATA
    writer.close()
    await _until(lambda: proxy.connections == 0, "the connection is forgotten")


@pytest.mark.parametrize("count", [1, 70_000, 1_234_567])
async def test_a_request_is_cut_after_so_many_bytes(
    proxy: Proxy, upstream: tuple[Upstream, str], count: int
) -> None:
    """To the byte: what the server has got by then is what the fault is about."""
    proxy.cut_after("up", count)
    reader, writer = await _connect(proxy)
    async with asyncio.TaskGroup() as group:
        group.create_task(_read_all(reader))
        await _write(writer, _DATA)
    await _until(lambda: len(upstream[0].got) >= count, "the bytes before the cut arrive")
    assert upstream[0].got == _DATA[:count]
    other_reader, other = await _connect(proxy)
    await _write(other, b"next")
    assert await other_reader.readexactly(4) == b"next", "it was cut once, not for ever"
    other.close()


@pytest.mark.parametrize("count", [1, 70_000, 1_234_567])
async def test_a_reply_is_cut_after_so_many_bytes(
    proxy: Proxy, upstream: tuple[Upstream, str], count: int
) -> None:
    """The client sees the beginning and an end that is none."""
    upstream[0].greeting = _DATA
    proxy.cut_after("down", count)
    reader, writer = await _connect(proxy)
    assert await _read_all(reader) == _DATA[:count]
    writer.close()


async def test_what_is_held_back_comes_late_and_whole(
    proxy: Proxy, upstream: tuple[Upstream, str]
) -> None:
    """In both directions, and for those who connect meanwhile."""
    reader, writer = await _connect(proxy)
    await _write(writer, b"one")
    assert await reader.readexactly(3) == b"one"
    proxy.hold()
    await _write(writer, b"two")
    late_reader, late = await _connect(proxy)
    await _write(late, b"three")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.readexactly(1), 0.2)
    assert upstream[0].got == b"one"
    proxy.let_pass()
    assert await reader.readexactly(3) == b"two"
    assert await late_reader.readexactly(5) == b"three"
    writer.close()
    late.close()


async def test_what_is_held_back_when_all_is_cut_never_comes(
    proxy: Proxy, upstream: tuple[Upstream, str]
) -> None:
    """A partition that loses what was on its way."""
    reader, writer = await _connect(proxy)
    await _write(writer, b"one")
    await reader.readexactly(3)
    proxy.hold()
    await _write(writer, b"two")
    proxy.cut()
    assert await _read_all(reader) == b""
    proxy.let_pass()
    await _until(lambda: proxy.connections == 0, "the connection is forgotten")
    assert upstream[0].got == b"one"
    writer.close()


async def test_a_slow_link_lets_so_much_pass_in_a_second(proxy: Proxy) -> None:
    """Within a factor: 60,000 bytes at 100,000 in a second take about 0.6 s."""
    proxy.bytes_s = 100_000
    reader, writer = await _connect(proxy)
    began = asyncio.get_running_loop().time()
    async with asyncio.TaskGroup() as group:
        group.create_task(_write(writer, _DATA[:60_000]))
        assert await reader.readexactly(60_000) == _DATA[:60_000]
    assert 0.3 < asyncio.get_running_loop().time() - began < 5
    proxy.heal()
    await _write(writer, _DATA[:60_000])
    assert await reader.readexactly(60_000) == _DATA[:60_000]
    writer.close()


async def test_a_refused_connection_is_taken_again_on_the_same_port(proxy: Proxy) -> None:
    """Connections that were there before go on."""
    reader, writer = await _connect(proxy)
    await _write(writer, b"one")
    await reader.readexactly(3)
    port = proxy.port
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        await _connect(proxy)
    await _write(writer, b"two")
    assert await reader.readexactly(3) == b"two"
    await proxy.accept()
    assert proxy.port == port
    again, other = await _connect(proxy)
    await _write(other, b"three")
    assert await again.readexactly(5) == b"three"
    writer.close()
    other.close()


async def test_where_nobody_listens_behind_it_connections_end_at_once(
    proxy: Proxy, upstream: tuple[Upstream, str]
) -> None:
    """As behind a load balancer whose servers are all down."""
    Path(upstream[1]).unlink()
    reader, writer = await _connect(proxy)
    assert await _read_all(reader) == b""
    writer.close()
