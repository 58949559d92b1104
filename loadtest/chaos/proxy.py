"""A TCP proxy with weather: it cuts, holds back, slows down, refuses, and changes no byte."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Literal, Self

from msgspec import Struct

Side = Literal["up", "down"]
"""`up` is what the client sends: requests."""

Address = tuple[str, int] | str
"""Host and port, or the path of a unix socket."""

_PIECE_BYTES = 65_536
_SLOW_TICK_S = 0.1


class _CutError(Exception):
    """The connection ends here."""


class _Fuse(Struct, eq=False):
    """Burns while bytes pass; where it ends, their connection is cut."""

    side: Side
    left: int


class Proxy:
    """Listens on a port of the loopback, from `async with` on."""

    def __init__(
        self,
        name: str,
        port: int,
        group: asyncio.TaskGroup,
        upstreams: Callable[[], Sequence[Address]],
    ) -> None:
        """Connections live in `group`. `upstreams` says where one may go to, best first."""
        self.name = name
        self.port = port
        self.bytes_s: int | None = None
        """Where it is slow: what passes in a second, in each direction of each connection."""
        self._group = group
        self._upstreams = upstreams
        self._server: asyncio.Server | None = None
        self._links: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._fuses: list[_Fuse] = []
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._closed = False

    async def __aenter__(self) -> Self:
        await self.accept()
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._closed = True
        self.refuse()
        self.heal()
        self.cut()

    @property
    def connections(self) -> int:
        """How many there are now."""
        return len(self._links)

    async def accept(self) -> None:
        """Take connections, on the same port as before."""
        if self._server is None:
            self._server = await asyncio.start_server(self._accepted, "127.0.0.1", self.port)

    def refuse(self) -> None:
        """Refuse new connections. Those that are there stay."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def hold(self) -> None:
        """Let nothing pass, in any direction, until `let_pass`."""
        self._flowing.clear()

    def let_pass(self) -> None:
        """Let pass what was held back, and all that comes."""
        self._flowing.set()

    def cut(self) -> None:
        """Cut all connections; what was held back is lost."""
        for link in self._links:
            for end in link:
                end.transport.abort()

    def cut_after(self, side: Side, count: int) -> None:
        """Let so many more bytes pass on that side, and cut the connection of the last of them."""
        self._fuses.append(_Fuse(side, count))

    def heal(self) -> None:
        """No more weather. What refuses must be told to `accept`."""
        self._fuses.clear()
        self.bytes_s = None
        self.let_pass()

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._group.create_task(self._serve(reader, writer))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._flowing.wait()
            up_reader, up_writer = await self._connect()
        except OSError:
            writer.transport.abort()
            return
        link = (writer, up_writer)
        for end in link:
            end.transport.set_write_buffer_limits(0)  # `drain` waits until the system has it all
        self._links.add(link)
        if self._closed:
            self.cut()
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(reader, up_writer, "up"))
                pumps.create_task(self._pump(up_reader, writer, "down"))
        except* (OSError, _CutError):
            pass
        finally:
            self._links.discard(link)
            for end in link:
                end.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        for address in self._upstreams():
            with contextlib.suppress(OSError):
                if isinstance(address, str):
                    return await asyncio.open_unix_connection(address)
                return await asyncio.open_connection(*address)
        raise ConnectionRefusedError(f"{self.name}: nobody answers")

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, side: Side
    ) -> None:
        while data := await reader.read(self._piece()):
            await self._flowing.wait()
            if writer.transport.is_closing():
                raise _CutError
            passing = self._burn(side, len(data))
            writer.write(data[:passing])
            await writer.drain()
            if passing is not None:
                raise _CutError
            if self.bytes_s is not None:
                await asyncio.sleep(len(data) / self.bytes_s)
        if not writer.transport.is_closing():
            writer.write_eof()

    def _piece(self) -> int:
        if self.bytes_s is None:
            return _PIECE_BYTES
        return max(1, min(_PIECE_BYTES, int(self.bytes_s * _SLOW_TICK_S)))

    def _burn(self, side: Side, count: int) -> int | None:
        """How many of these bytes pass before their connection is cut; None: all, and it is not."""
        for fuse in self._fuses:
            if fuse.side == side:
                fuse.left -= count
                if fuse.left <= 0:
                    self._fuses.remove(fuse)
                    return count + fuse.left
                return None
        return None
