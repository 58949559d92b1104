"""No token, lease, session id or secret of a task gets to where others read: logs, problems,
metrics, the disk.
"""

import asyncio
import base64
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import asyncpg
import msgspec
import psutil

from api import cookies
from client.demo.processes import free_port
from schema.claims import ClaimReply
from schema.tokens import TokenMade
from tests.api.compat_agent import CompatAgent
from tests.api.server import MSGPACK, Api, chunk, eventually, exited

_ROOT = Path(__file__).parents[2]
_GIVEN = {
    "TOKEN": "the-admins-secret-51", "SUBMIT_TOKEN": "to-submit-with-it-52",
    "READ_TOKEN": "to-read-with-it-53", "AGENT_TOKEN": "the-agents-secret-54",
    "SECRETS_KEY": base64.b64encode(bytes(range(77, 109))).decode(),
}  # fmt: skip
_SECRET = "what/tasks+know 55"
_PEM = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n-----END KEY-----\n"
_OF_TASKS = {
    "a task's secret": _SECRET,
    "the same in base64": base64.b64encode(_SECRET.encode()).decode().rstrip("="),
    "the same in base64, one byte later": base64.b64encode(b":" + _SECRET.encode())[2:].decode(),
    "the same in base64, two bytes later": base64.b64encode(b"::" + _SECRET.encode())[3:].decode(),
    "the same in a URL": quote(_SECRET, ""),
    "a line of a task's key": _PEM.splitlines()[1],
}


class _Run:
    """A system that runs, all that it wrote, and what must not be in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.secrets: dict[str, str] = dict(_GIVEN)
        """Text by what it is."""
        self.seen: dict[str, bytes] = {}
        """What was written, by where."""
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def found(self) -> list[tuple[str, str]]:
        """(where, what) of each secret that was written."""
        return [
            (where, what)
            for where, text in self.seen.items()
            for what, secret in self.secrets.items()
            if secret.encode() in text
        ]

    def environ(self, **more: str) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder), "LOG_LEVEL": "debug"} | more

    @asynccontextmanager
    async def process(self, name: str, *words: str, **environ: str) -> AsyncIterator[int]:
        """Run one of ours; what it says is kept when it has ended."""
        said = self.folder / f"{name}.said"
        with said.open("wb") as out:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", *words, cwd=_ROOT, env=self.environ(**environ),
                stdout=out, stderr=asyncio.subprocess.STDOUT,
            )  # fmt: skip
        try:
            yield process.pid
        finally:
            command_line = psutil.Process(process.pid).cmdline()
            self.seen[f"command line of {name}"] = " ".join(command_line).encode()
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), 30)
            except TimeoutError:
                process.kill()
                await process.wait()
            self.seen[f"what {name} says"] = said.read_bytes()

    async def dw(self, *words: str, token: str) -> str:
        """What `dw` writes."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "client.cli", *words, cwd=_ROOT,
            env=self.environ(API_URL=self.url, TOKEN=token),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        out, _ = await process.communicate()
        self.seen[f"dw {' '.join(words)} #{len(self.seen)}"] = out
        return out.decode()

    async def make(self, name: str, role: str) -> str:
        """Make a token with `dw`, which shows it this once."""
        words = ("token", "new", "--role", role, "--name", name, "--json")
        await self.dw(*words, token=_GIVEN["TOKEN"])
        out = self.seen.popitem()[1]
        token = msgspec.json.decode(out, type=TokenMade).token
        self.secrets[f"token {name}"] = token
        return token

    async def ask(self, api: Api, method: str, path: str, token: str = "", **more: Any) -> bytes:
        """One request whose answer is for whoever asked, and must tell no secret."""
        headers = {"Authorization": f"Bearer {token}"} | more.pop("headers", {})
        reply = await api.call(method, path, headers=headers, allow_redirects=False, **more)
        self.seen[f"{reply.status} {method} #{len(self.seen)} {path[:9]}"] = reply.body
        return reply.body


async def test_nothing_leaks_in_a_whole_run(short_folder: Path) -> None:
    """Every log, reply and file of a run with mistakes, outages and a revocation is searched."""
    run = _Run(short_folder)
    data = short_folder / "data"
    async with (
        run.process(
            "api", "api", PORT=str(run.port), WORKERS="2", DATA_DIR=str(data), LEASE_S="5", **_GIVEN
        ) as api_pid,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as http,
    ):
        api = Api(http, run.url)
        await eventually(lambda: _up(api), bool, 60)
        made = {role: await run.make(f"a-{role}", role) for role in ("admin", "submit", "read")}
        wall = await run.make("wall-3", "agent")
        state = short_folder / "state"
        async with run.process(
            "agent", "agent", "2", API_URL=run.url, TOKEN=wall, STATE_DIR=str(state),
            LABELS="wall", PREFETCH="0", READ_TOKEN=_GIVEN["READ_TOKEN"],
            SECRETS_KEY=_GIVEN["SECRETS_KEY"],
        ):  # fmt: skip
            await _people(run, api, made)
            await _tasks_with_secrets(run, api, made)
            await _agent_by_hand(run, api)
            await _agent_of_old(run, api)
            note = json.loads((state / "session").read_text())
            run.secrets["the agent's session"] = note["session"]
            await _mistakes(run, api, made["submit"])
            await _outage(api_pid, run, api)
            await run.dw("token", "revoke", "wall-3", token=made["admin"])

            async def told() -> str:
                return (short_folder / "agent.said").read_text()

            await eventually(told, lambda text: "401" in text or "410" in text, 30)
        await run.ask(api, "GET", "/metrics", made["read"])
        await run.dw("token", "ls", "--all", token=made["admin"])
        await run.dw("audit", token=made["admin"])
        async with asyncpg_to(data) as database:
            for table in ("tokens", "sessions", "tasks", "attempts", "audit", "task_secrets"):
                rows = await database.fetch(f"SELECT t::text FROM {table} AS t")
                run.seen[f"table {table}"] = "\n".join(row[0] for row in rows).encode()
            key = bytes(await database.fetchval("SELECT value FROM keys WHERE name = 'lease'"))
            run.secrets["the key of leases"] = key.hex()
    for file in data.rglob("*"):
        if file.is_file():
            run.seen[f"file {file.relative_to(data)}"] = file.read_bytes()
    for file in state.rglob("*"):
        if file.is_file() and file.name != "session" and "spool" not in file.parts:
            run.seen[f"file {file.relative_to(short_folder)}"] = file.read_bytes()
    assert len(run.secrets) >= 12, run.secrets.keys()
    assert len(run.seen) >= 100
    assert b"no database" in run.seen["what api says"], "there was no outage to speak of"
    assert run.found() == []


async def _up(api: Api) -> bool:
    try:
        return (await api.call("GET", "/health/ready")).status == 200
    except aiohttp.ClientError:
        return False


@asynccontextmanager
async def asyncpg_to(data: Path) -> AsyncIterator[asyncpg.Connection]:
    """Connect to the embedded PostgreSQL, wherever its socket had to be."""
    note = data / "socket-folder"
    sockets = note.read_text() if note.exists() else str(data.resolve() / "postgres")
    connection = await asyncpg.connect(f"postgresql://postgres:@/postgres?host={sockets}")
    try:
        yield connection
    finally:
        await connection.close()


async def _people(run: _Run, api: Api, made: dict[str, str]) -> None:
    """Tasks that print all they can see of their agent, and a browser."""
    for command in ("env", "cat /proc/$$/environ", "echo done"):
        await run.dw("submit", "--follow", "--needs", "wall", "--", command, token=made["submit"])
    for words in (("ls",), ("show", "1"), ("logs", "1"), ("agents", "--all"), ("token", "ls")):
        await run.dw(*words, token=made["read"])
    reply = await api.call("POST", "/login", data={"token": made["admin"]}, allow_redirects=False)
    assert reply.status == 303
    cookie = reply.headers["set-cookie"].partition(";")[0]
    run.secrets["cookie"] = cookie.removeprefix(f"{cookies.NAME}=")
    for path in ("/", "/tasks", "/tasks/1", "/agents", "/groups/none", "/schema/openapi.json"):
        await run.ask(api, "GET", path, headers={"Authorization": "", "Cookie": cookie})
    await run.ask(api, "POST", "/tasks", headers={"Authorization": "", "Cookie": cookie})


async def _tasks_with_secrets(run: _Run, api: Api, made: dict[str, str]) -> None:
    """Tasks that print what they know in all forms; one fails, so that its secrets are kept."""
    run.secrets |= _OF_TASKS
    given = {"S": _SECRET, "P": _PEM}
    printing = 'echo "$S"; printf %s "$S" | base64; printf %s ":$S" | base64; echo "$P" >&2; env'
    for wrong in (
        {"secrets": given | {"X": _SECRET[:5]}}, {"secrets": given, "env": {"S": "x"}},
        {"secrets": given | {"L": f"{_SECRET}\n" * 201}}, {"secrets": [_SECRET]},
        {"secrets": {_SECRET: 5}}, {"secrets": given, "key": "k\0"},
    ):  # fmt: skip
        await run.ask(api, "POST", "/tasks", made["submit"], json={"command": "true"} | wrong)
    for code, command in ((0, printing), (3, f"{printing}; exit 3")):
        keyed = {"command": command, "needs": ["wall"], "secrets": given, "key": f"secret-{code}"}
        reply = json.loads(await run.ask(api, "POST", "/tasks", made["submit"], json=keyed))
        await run.ask(api, "POST", "/tasks", made["submit"], json=keyed | {"secrets": {"S": _PEM}})
        ended = await run.dw("wait", str(reply["id"]), token=made["read"])
        assert ("succeeded" if code == 0 else "failed") in ended, ended
        for words in (("show",), ("show", "--json"), ("logs",), ("logs", "--timestamps", "iso")):
            out = await run.dw(*words, str(reply["id"]), token=made["read"])
            assert words[0] == "show" or out.count("***") >= 4, out
    retried = await run.dw("retry", str(reply["id"]), token=made["submit"])
    assert str(reply["id"]) in retried


async def _agent_by_hand(run: _Run, api: Api) -> None:
    """The replies that carry a session id or a lease are for the agent itself; no others may."""
    mine = {"Authorization": f"Bearer {_GIVEN['AGENT_TOKEN']}"}
    number = await _submitted(api, needs=["by-hand"])
    opened = await api.call(
        "POST", "/sessions", json={"agent": "me", "labels": ["by-hand"]}, headers=mine
    )
    session = msgspec.json.decode(opened.body)["session"]
    ask = {"session": session, "slots": 1, "wait": 10}
    (task,) = (await api.call("POST", "/claims", json=ask, headers=mine)).as_(ClaimReply).tasks
    assert task.id == number
    run.secrets |= {"a session": session, "a lease": task.lease}
    run.secrets["a lease's MAC"] = task.lease.rpartition(".")[2]
    for report in (
        {"session": session, "chunks": [chunk(task.lease, b"hello\n")]},
        {"session": session, "chunks": [chunk(task.lease, b"other\n", resent=True)]},
        {"session": session, "chunks": [chunk(task.lease, b"x", marks=[(9, 1)])]},
        {"session": session, "results": [exited(task.lease[:-1] + "!")]},
        {"session": session, "results": [exited(task.lease)]},
        {"session": session, "results": [exited(task.lease, 5)]},
        {"session": session, "results": [{"lease": task.lease}]},
    ):
        await run.ask(
            api, "POST", "/reports", data=msgspec.msgpack.encode(report),
            headers=mine | {"Content-Type": MSGPACK},
        )  # fmt: skip
    thief = {"Authorization": f"Bearer {_GIVEN['TOKEN']}"}
    for path, body in (
        ("/beats", {"session": session, "held": [[number, 1]]}),
        ("/beats", {"session": session, "held": 5}),
        ("/claims", {"session": session, "slots": -1}),
        ("/beats", {"session": session, "closing": True}),
    ):
        await run.ask(api, "POST", path, json=body, headers=thief)
        await run.ask(api, "POST", path, json=body, headers=mine)
    await run.ask(api, "POST", "/beats", json={"session": session}, headers=mine)  # it is gone


async def _submitted(api: Api, **fields: Any) -> int:
    reply = await api.call(
        "POST", "/tasks", json={"command": "true"} | fields,
        headers={"Authorization": f"Bearer {_GIVEN['SUBMIT_TOKEN']}"},
    )  # fmt: skip
    return int(msgspec.json.decode(reply.body)["id"])


async def _agent_of_old(run: _Run, api: Api) -> None:
    """Its token stands in the path of every request, right and wrong."""
    base = f"/t/{run.secrets['token wall-3']}"
    old = CompatAgent(api.http, run.url + base, poll_s=0.05)
    working = asyncio.ensure_future(old.run())

    async def done() -> list[int]:
        for _ in range(5):  # more than the other agent has slots
            await _submitted(api, command="echo old; sleep 0.2")
        return old.done

    await eventually(done, bool)
    working.cancel()
    for method, path in (
        ("POST", "/tasks/1/logs"), ("PATCH", "/tasks/1/status"), ("POST", "/tasks/99999/logs"),
        ("GET", "/nowhere"), ("GET", "/tasks"), ("POST", "/claims"), ("DELETE", "/tasks/pull"),
        ("GET", "/"), ("GET", ""), ("GET", "/tasks/x"), ("GET", f"/t/{_GIVEN['AGENT_TOKEN']}/"),
    ):  # fmt: skip
        await run.ask(api, method, base + path)
        await run.ask(api, method, f"/t/{_GIVEN['TOKEN']}{path}", json={"status": "succeeded"})


async def _mistakes(run: _Run, api: Api, submit: str) -> None:
    """Tokens where they do not belong: what is wrong is named, and not written down."""
    for token in (*run.secrets.values(), "nobody's"):
        for method, path in (("POST", "/tokens"), ("GET", "/audit"), ("POST", "/claims")):
            await run.ask(api, method, path, token, json={"name": "x"})
    await run.ask(api, "GET", "/tasks?cursor=x", submit)
    await run.ask(api, "POST", "/tasks", submit, data=b"\xff\x00")
    await run.ask(api, "POST", "/login", data={"token": submit + "x"})
    await run.dw("ls", token=submit + "x")
    await run.dw("token", "new", "--role", "read", "--name", "x", token=submit)


async def _outage(api_pid: int, run: _Run, api: Api) -> None:
    """PostgreSQL is killed under requests of all kinds: what fails is logged with its reasons."""
    (postgres,) = (each for each in psutil.Process(api_pid).children() if "postgres" in each.name())
    postgres.kill()
    token = run.secrets["token wall-3"]

    async def failing() -> bool:
        for method, path in (
            ("GET", "/tasks"), ("POST", f"/t/{token}/tasks/pull"), ("GET", "/tokens"),
            ("POST", f"/t/{token}/tasks/1/logs"), ("GET", "/health/ready"),
        ):  # fmt: skip
            await run.ask(
                api, method, path, _GIVEN["TOKEN"],
                json={"kind": "stdout", "index": 0, "content": ""},
            )  # fmt: skip
        return await _up(api)

    await eventually(failing, lambda up: up, 60)
