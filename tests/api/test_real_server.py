"""`python -m api` with its worker processes, where sockets and signals matter."""

import asyncio
import json
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import IO

import aiohttp
import asyncpg
import psutil
import pytest
from msgspec import Struct

from schema.sessions import BeatReply
from schema.tokens import TokenMade
from tests.api.events import Viewer, watched
from tests.api.server import Api, eventually, exited
from tests.api.writers import until, writer
from tests.conftest import _database

_ROOT = Path(__file__).parents[2]


class Running(Struct):
    """A server, and a way to speak to it over new connections."""

    api: Api
    port: int
    process: asyncio.subprocess.Process
    banner: str


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@asynccontextmanager
async def started(
    url: str, folder: Path, errors: IO[bytes] | None = None, **more: str
) -> AsyncIterator[Running]:
    """Start `python -m api` with two workers; more of its environment may be given."""
    port = _free_port()
    environment = os.environ | {
        "DATABASE_URL": url, "PORT": str(port), "HOST": "127.0.0.1", "WORKERS": "2",
        "DATA_DIR": str(folder), "TOKEN": "", "REAPER_S": "0.2", "LEASE_S": "60",
    }  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "api", cwd=_ROOT, env=environment | more, stderr=errors,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    # Each request on a connection of its own: so both workers get some.
    connector = aiohttp.TCPConnector(force_close=True)
    try:
        banner = (await asyncio.wait_for(process.stdout.readline(), 30)).decode()
        async with aiohttp.ClientSession(connector=connector) as http:
            yield Running(Api(http, f"http://127.0.0.1:{port}"), port, process, banner)
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), 30)


@pytest.fixture(scope="module")
async def real(cluster: str, template: str) -> AsyncIterator[Running]:
    """Start one server for the tests of this file."""
    with tempfile.TemporaryDirectory() as folder:
        async with _database(cluster, template) as url, started(url, Path(folder)) as one:
            yield one


async def _send(real: Running, path: str, body: dict[str, object]) -> asyncio.StreamWriter:
    """Send a request by hand, and read nothing."""
    _, writer = await asyncio.open_connection("127.0.0.1", real.port)
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n"
    writer.write(head.encode() + data)
    await writer.drain()
    return writer


async def test_it_says_where_it_listens_when_it_answers(real: Running) -> None:
    """One line, after which the first request succeeds."""
    assert real.banner == (
        f"listening on http://127.0.0.1:{real.port} with 2 workers over DATABASE_URL;"
        " no token required\n"
    )
    assert (await real.api.call("GET", "/health/ready")).status == 200


async def test_both_workers_serve_one_session(real: Running) -> None:
    """Sessions, claims and beats may reach another process each time."""
    session = await real.api.open("both")
    for _ in range(20):
        number = await real.api.submit(needs=["both"])
        (task,) = await real.api.claim(session, wait=20)
        assert task.id == number
        assert (await real.api.beat(session, held=[[number, 1]])).cancel == ()
        assert await real.api.report(session, [], [exited(task.lease)]) == ["ok"]


async def test_a_parked_claim_whose_client_is_gone_is_given_nothing(real: Running) -> None:
    """The connection closed: the task goes to the agent that is there, at its first attempt."""
    gone, there = await real.api.open("parked"), await real.api.open("parked")
    writers = [
        await _send(real, "/claims", {"session": gone, "slots": 4, "wait": 50}) for _ in range(4)
    ]
    for _ in range(10):
        await real.api.call("GET", "/health/live")
    for each in writers:
        each.close()
        with suppress(OSError):
            await each.wait_closed()
    numbers = [await real.api.submit(needs=["parked"]) for _ in range(10)]
    given: list[int] = []
    while len(given) < 10:
        tasks = await real.api.claim(there, slots=10, wait=20)
        assert tasks, given
        given += [task.id for task in tasks]
    assert sorted(given) == numbers


async def test_a_claim_whose_reply_was_lost_comes_with_the_next_beat(real: Running) -> None:
    """The connection broke after the database had given the task: it waits for no lease."""
    session = await real.api.open("lost-reply")
    for _ in range(10):
        number = await real.api.submit(needs=["lost-reply"])
        writer = await _send(real, "/claims", {"session": session, "slots": 1})
        task = await real.api.task(number)
        writer.transport.abort()

        async def found() -> list[tuple[int, int, str]]:
            beat: BeatReply = await real.api.beat(session, held=[])
            tasks = list(beat.redeliver) or await real.api.claim(session)
            return [(each.id, each.attempt, each.lease) for each in tasks]

        ((found_id, _, lease),) = await eventually(found, bool)
        assert found_id == number == task.id
        assert await real.api.report(session, [], [exited(lease)]) == ["ok"]


async def test_a_killed_worker_is_replaced_and_nothing_is_lost(real: Running) -> None:
    """Kill -9 of a process of the server: the system comes back by itself."""
    session = await real.api.open("killed")
    number = await real.api.submit(needs=["killed"])
    (task,) = await real.api.claim(session, wait=20)
    main = psutil.Process(real.process.pid)
    workers = [each for each in main.children() if "spawn_main" in " ".join(each.cmdline())]
    assert len(workers) >= 2
    workers[0].kill()
    psutil.wait_procs(workers[:1], timeout=10)

    async def reported() -> list[str]:
        try:
            return await real.api.report(session, [], [exited(task.lease)])
        except aiohttp.ClientError as error:
            return [repr(error)]

    verdicts = await eventually(reported, lambda each: each in (["ok"], ["duplicate"]), 30)
    assert verdicts
    assert (await real.api.task(number)).status == "succeeded"

    async def alive() -> int:
        return len([each for each in main.children() if "spawn_main" in " ".join(each.cmdline())])

    await eventually(alive, lambda count: count == len(workers), 30)


async def test_it_stops_at_once_though_requests_are_parked(
    database_url: str, short_folder: Path
) -> None:
    """A deployment must not wait for long-polls and viewers: they are answered, not cut."""
    async with started(database_url, short_folder) as real:
        session = await real.api.open("stop")
        loop = asyncio.get_running_loop()
        number = await real.api.submit(group="stop")
        viewers = [
            Viewer(real.api, f"/{what}/logs/live")
            for what in [f"tasks/{number}"] * 4 + ["groups/stop"] * 4
        ]
        async with asyncio.TaskGroup() as group:
            for viewer in viewers:
                group.create_task(viewer.watch())
            for viewer in viewers:
                await until(viewer, lambda one: bool(one.events))
            claim = group.create_task(real.api.claim(session, wait=50))
            beat = group.create_task(real.api.beat(session, wait=20))
            for _ in range(10):
                await real.api.call("GET", "/health/live")
            assert not claim.done()
            begun = loop.time()
            real.process.send_signal(signal.SIGTERM)
        assert not any(viewer.named("end") + viewer.named("done") for viewer in viewers)
        assert claim.result() == []
        assert beat.result().cancel == ()
        assert await asyncio.wait_for(real.process.wait(), 20) == 0
        assert loop.time() - begun < 8


async def test_viewers_do_not_hold_up_a_stop_while_the_database_hangs(
    database_url: str, short_folder: Path
) -> None:
    """It ends what they wait for, wherever they wait: they come back with their last id."""
    async with started(database_url, short_folder) as real:
        agent = await writer(real.api, group="hangs")
        await agent.write(3)
        viewers = [
            Viewer(real.api, f"/{what}/logs/live")
            for what in [f"tasks/{agent.task.id}"] * 4 + ["groups/hangs"] * 4
        ]
        loop = asyncio.get_running_loop()
        database = await asyncpg.connect(database_url)
        try:
            async with asyncio.TaskGroup() as group:
                for viewer in viewers:
                    group.create_task(viewer.watch())
                for viewer in viewers:
                    await until(viewer, lambda one: len(one.pieces) == 3)
                await database.execute("BEGIN; LOCK TABLE tasks, log_chunks")
                await _waits_for_lock(database)
                begun = loop.time()
                real.process.send_signal(signal.SIGTERM)
            assert all(viewer.over for viewer in viewers)
            assert loop.time() - begun < 5
            assert await asyncio.wait_for(real.process.wait(), 20) == 0
            assert loop.time() - begun < 8
        finally:
            await database.close()


async def _waits_for_lock(database: asyncpg.Connection) -> None:
    """Wait until a viewer's look waits."""

    async def waiting() -> int:
        count: int = await database.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return count

    await eventually(waiting, lambda count: count > 0)


async def test_off_loopback_a_token_of_the_table_will_do(
    database_url: str, short_folder: Path
) -> None:
    """Made while it listened on loopback; and without TLS there is a word of warning, once."""
    async with started(database_url, short_folder) as real:
        made = await real.api.post("/tokens", {"name": "alice", "role": "admin"})
        token = made.as_(TokenMade).token
    said = short_folder / "said"
    with said.open("wb") as log:
        async with started(database_url, short_folder, log, HOST="0.0.0.0") as real:
            assert "no token required" not in real.banner
            (await real.api.call("GET", "/tasks")).problem(401)
            headers = {"Authorization": f"Bearer {token}"}
            assert (await real.api.call("GET", "/tasks", headers=headers)).status == 200
    assert said.read_text().splitlines() == [
        "W __main__: HOST=0.0.0.0 without TLS_CERT and TLS_KEY: anyone on the network can read"
        " tokens and logs, unless a proxy in front terminates TLS"
    ]


async def test_a_viewer_at_one_server_sees_what_is_reported_to_another(
    database_url: str, short_folder: Path
) -> None:
    """Two API machines over one database; the agent's pace follows the viewer, too."""
    folders = [short_folder / name for name in ("one", "two")]
    async with started(database_url, folders[0]) as one, started(database_url, folders[1]) as two:
        agent = await writer(two.api)
        number = agent.task.id
        parked = asyncio.ensure_future(two.api.beat(agent.session, wait=20, flush_ms=None))
        async with watched(one.api, f"/tasks/{number}/logs/live") as viewer:
            assert (await asyncio.wait_for(parked, 5)).flush_ms == 250
            for count in range(1, 21):
                await agent.write(1)
                await until(viewer, lambda each, count=count: len(each.pieces) == count)  # type: ignore[misc]  # mypy knows no defaults there
            await agent.end()
            await until(viewer, lambda each: bool(each.named("end")))
        for stream, data in agent.logs.items():
            assert viewer.log(number, stream) == data


async def test_an_option_is_refused() -> None:
    """A server that ignored `--port 4000` would listen where nobody expects it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "api", "--port", "4000", cwd=_ROOT, stderr=asyncio.subprocess.PIPE
    )
    _, error = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 2
    assert b"--port" in error


@pytest.mark.parametrize(
    ("setting", "word"),
    [({"PORT": "http"}, "PORT='http'"), ({"HOST": "0.0.0.0"}, "TOKEN")],
)
async def test_what_is_wrong_with_the_settings_is_one_line(
    setting: dict[str, str], word: str, short_folder: Path
) -> None:
    """And off loopback without a token it does not listen at all."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "api", cwd=_ROOT, stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"TOKEN": "", "DATA_DIR": str(short_folder)} | setting,
    )  # fmt: skip
    _, error = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 1
    *_, last = error.decode().splitlines()  # before it, what was done to a new database
    assert last.startswith("cannot start: ")
    assert word in last


async def test_the_data_folder_is_closed_to_others(database_url: str, short_folder: Path) -> None:
    """Also where PostgreSQL is elsewhere, and it holds no more than the workers' figures."""
    data = short_folder / "data"
    async with started(database_url, data, WORKERS="1"):
        assert data.stat().st_mode & 0o777 == 0o700
