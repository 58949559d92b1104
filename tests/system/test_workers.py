"""The server's worker processes die, more than once and without a database: it comes back."""

import asyncio
import os
import socket
import sys
import urllib.parse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import psutil
import pytest
from msgspec import Struct

from tests.api.server import Api, eventually

_ROOT = Path(__file__).parents[2]


class _Running(Struct):
    api: Api
    process: asyncio.subprocess.Process
    said: Path

    def workers(self) -> list[psutil.Process]:
        """Those that live now; none where the server has ended."""
        try:
            children = psutil.Process(self.process.pid).children()
            return [each for each in children if "spawn_main" in " ".join(each.cmdline())]
        except psutil.NoSuchProcess:
            return []

    async def both_but(self, *dead: int) -> list[psutil.Process]:
        """Wait for two workers, none of them one of these."""

        async def look() -> list[psutil.Process]:
            assert self.process.returncode is None, self.said.read_text()
            return [each for each in self.workers() if each.pid not in dead]

        return await eventually(look, lambda found: len(found) == 2, 30)

    async def serves(self) -> None:
        """Wait until twenty requests in a row, each on a new connection, are answered."""

        async def good() -> bool:
            try:
                replies = [await self.api.call("GET", "/tasks") for _ in range(20)]
            except aiohttp.ClientError:
                return False
            return all(reply.status == 200 for reply in replies)

        await eventually(good, bool, 30)


@asynccontextmanager
async def _running(url: str, folder: Path) -> AsyncIterator[_Running]:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    environment = os.environ | {
        "DATABASE_URL": url, "PORT": str(port), "HOST": "127.0.0.1", "WORKERS": "2",
        "DATA_DIR": str(folder), "TOKEN": "",
    }  # fmt: skip
    said = folder / "said"
    with said.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "api", cwd=_ROOT, env=environment, stderr=log,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
    assert process.stdout is not None
    connector = aiohttp.TCPConnector(force_close=True)
    try:
        assert await asyncio.wait_for(process.stdout.readline(), 30), said.read_text()
        async with aiohttp.ClientSession(connector=connector) as http:
            yield _Running(Api(http, f"http://127.0.0.1:{port}"), process, said)
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), 30)


async def test_a_worker_may_die_again_and_again(database_url: str, short_folder: Path) -> None:
    """Granian gives the whole server up where one dies twice within 5.5 s."""
    async with _running(database_url, short_folder) as server:
        dead: list[int] = []
        for _ in range(3):
            workers = await server.both_but(*dead)
            victim = max(workers, key=psutil.Process.create_time)  # the one that replaced the last
            dead.append(victim.pid)
            victim.kill()
        await server.both_but(*dead)
        await server.serves()


async def test_a_worker_that_starts_in_an_outage_waits_for_the_database(
    database_url: str, short_folder: Path
) -> None:
    """It was replaced just when the database was started again: both come back."""
    where = urllib.parse.urlsplit(database_url)
    host = urllib.parse.parse_qs(where.query).get("host", [""])[0]
    if not host.startswith("/"):
        pytest.skip("TEST_DATABASE_URL is no unix socket, which the test takes away")
    name = ".s.PGSQL.5432"
    door = short_folder / name
    door.symlink_to(Path(host) / name)
    url = where._replace(query=f"host={urllib.parse.quote(str(short_folder), safe='')}").geturl()
    async with _running(url, short_folder) as server:
        victim = (await server.both_but())[0]
        door.unlink()
        victim.kill()

        async def said() -> str:
            return server.said.read_text()

        await eventually(said, lambda text: "waiting for the database" in text, 30)
        door.symlink_to(Path(host) / name)
        await server.both_but(victim.pid)
        await server.serves()
