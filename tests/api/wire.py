"""Bytes to a real server and back, and what its workers take meanwhile."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil
from msgspec import Struct

from tests.api.server import Reply, eventually
from tests.api.test_real_server import Running

_NEIGHBOUR = str(Path(__file__).with_name("neighbour.py"))
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) [A-Z]")
TOKEN = "the-admins-secret-61"


def head(method: str, target: str, *headers: str) -> bytes:
    """A request's head with a token, after whose answer the server closes."""
    lines = [
        f"{method} {target} HTTP/1.1",
        "Host: localhost",
        f"Authorization: Bearer {TOKEN}",
        *headers,
    ]
    return "".join(f"{line}\r\n" for line in [*lines, "Connection: close", ""]).encode("latin-1")


def post(path: str, body: bytes, *headers: str) -> bytes:
    """A whole request."""
    return head("POST", path, f"Content-Length: {len(body)}", *headers) + body


def statuses(received: bytes) -> list[int]:
    """Those of all answers in what came back, also of `100 Continue`."""
    return [int(each) for each in _STATUS.findall(received)]


async def talk(port: int, *pieces: bytes, pause_s: float = 0, within_s: float = 20) -> bytes:
    """Send pieces, then nothing more; all that comes back until the server closes.

    Our side stays open: to Granian, who closes it is gone.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(within_s):
            answer = asyncio.ensure_future(reader.read(-1))
            with suppress(ConnectionError):  # it may refuse before it has read everything
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                    if pause_s:
                        await asyncio.wait([answer], timeout=pause_s)
                    if answer.done():
                        break
            with suppress(ConnectionError):
                return await answer
            return b""
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


class Toll(Struct):
    """What something cost the server."""

    before_mib: float
    """Resident memory of its largest worker."""
    peak_mib: float = 0
    slowest_s: float = 0
    """Of a neighbour's small requests."""

    @property
    def grown_mib(self) -> float:
        """How far the memory of the largest worker rose."""
        return self.peak_mib - self.before_mib


def workers(real: Running) -> list[psutil.Process]:
    """The processes that answer."""
    children = psutil.Process(real.process.pid).children()
    return [each for each in children if "spawn_main" in " ".join(each.cmdline())]


def resident_mib(real: Running) -> float:
    """Memory of all workers together."""
    return sum(each.memory_info().rss for each in workers(real)) / 2**20


@asynccontextmanager
async def watched(real: Running) -> AsyncIterator[Toll]:
    """Ask for small things all the while; see how long that takes, and how much memory is held."""
    pids = [each.pid for each in workers(real)]
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak starts from here
    toll = Toll(max(_status_mib(pids, "VmRSS")))
    # In a process of its own: here it would wait for whoever sends the odd things.
    neighbour = await asyncio.create_subprocess_exec(
        sys.executable, "-S", _NEIGHBOUR, str(real.port),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert neighbour.stdout is not None
    assert await neighbour.stdout.readline() == b"asking\n"
    try:
        yield toll
    finally:
        said, _ = await neighbour.communicate(b"")
        toll.peak_mib = max(_status_mib(pids, "VmHWM"))
    toll.slowest_s, asked = float(said.split()[0]), int(said.split()[1])
    assert asked > 0


def _status_mib(pids: Iterable[int], field: str) -> list[float]:
    found = []
    for pid in pids:
        text = Path(f"/proc/{pid}/status").read_text()
        (line,) = [each for each in text.splitlines() if each.startswith(f"{field}:")]
        found.append(int(line.split()[1]) / 1024)
    return found


async def serves(real: Running) -> None:
    """Each worker still does its work."""
    for _ in range(4):
        await real.api.submit()

    async def asked() -> Reply:
        return await real.api.call("GET", "/health/ready")

    await eventually(asked, lambda reply: reply.status == 200)
