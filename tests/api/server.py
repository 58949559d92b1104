"""A server of a test: the real application behind Granian, in the test's own process."""

import asyncio
import io
import itertools
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import msgspec
from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server
from msgspec import Struct

from api import members
from api.app import create_app
from api.settings import Settings
from schema import marks as marks_of
from schema.claims import ClaimedTask, ClaimReply
from schema.problems import Problem
from schema.reports import ReportReply
from schema.sessions import BeatReply, SessionOpened
from schema.tasks import Submitted, Task

T = TypeVar("T")

MSGPACK = "application/msgpack"
BASE_US = 1_767_225_600_000_000
_numbers = itertools.count(1)


async def eventually(
    look: Callable[[], Awaitable[T]], good: Callable[[T], bool], within_s: float = 15
) -> T:
    """Look until it is good; AssertionError with what was seen last."""
    deadline = asyncio.get_running_loop().time() + within_s
    while not good(state := await look()):
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"not within {within_s} s: {state!r:.2000}")
        await asyncio.sleep(0.01)
    return state


class Reply(Struct, frozen=True):
    """What came back."""

    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def text(self) -> str:
        """The body of a good reply, for people."""
        assert self.status == 200, (self.status, self.body)
        return self.body.decode()

    def as_(self, kind: type[T]) -> T:
        """The JSON of a good reply."""
        assert self.status in {200, 201}, (self.status, self.body)
        return msgspec.json.decode(self.body, type=kind)

    def problem(self, status: int, *words: str) -> Problem:
        """Demand problem+json of that status that names what is wrong."""
        assert self.status == status, (self.status, self.body)
        assert self.headers["content-type"].partition(";")[0] == "application/problem+json"
        problem = msgspec.json.decode(self.body, type=Problem)
        assert problem.status == status
        assert problem.title
        for word in words:
            assert word in problem.detail, problem.detail
        return problem


def chunk(
    lease: str, data: bytes, *, stream: str = "stdout", offset: int = 0, at: int | None = None,
    marks: Sequence[marks_of.Mark] | None = None, **more: Any,
) -> dict[str, Any]:  # fmt: skip
    """One chunk of a report; `at`: a mark so many milliseconds after a fixed moment."""
    if at is not None:
        marks = [(0, BASE_US + 1000 * at)]
    encoded = marks_of.encode(marks) if marks else b""
    base: dict[str, Any] = {"lease": lease, "stream": stream, "offset": offset, "marks": encoded}
    return base | {"content": members.deflate(data)} | more


def exited(lease: str, code: int = 0, **more: Any) -> dict[str, Any]:
    """Make a result: the command exited."""
    return {"lease": lease, "reason": "exit", "exit_code": code} | more


def total(data: bytes) -> dict[str, int]:
    """All that an attempt wrote to one stream."""
    return {"bytes": len(data), "crc": zlib.crc32(data)}


class Api:
    """Speaks to one server."""

    def __init__(self, http: aiohttp.ClientSession, url: str = "http://localhost") -> None:
        self.http = http
        self.url = url

    async def call(self, method: str, path: str, **options: Any) -> Reply:
        """One request, as aiohttp takes it."""
        if isinstance(options.get("data"), bytes):
            options["data"] = io.BytesIO(options["data"])  # aiohttp warns of large bytes
        async with self.http.request(method, self.url + path, **options) as reply:
            headers = {name.lower(): value for name, value in reply.headers.items()}
            return Reply(reply.status, headers, await reply.read())

    async def post(self, path: str, body: Any) -> Reply:
        """Post a body as JSON."""
        return await self.call("POST", path, data=msgspec.json.encode(body), headers=_JSON)

    async def submit(self, *, command: str = "true", **fields: Any) -> int:
        """Hand over one task; one that nobody can take, unless `needs` says otherwise."""
        reply = await self.post("/tasks", {"command": command, "needs": ["nobody"]} | fields)
        return reply.as_(Submitted).id

    async def task(self, number: int) -> Task:
        """One task as people see it."""
        return (await self.call("GET", f"/tasks/{number}")).as_(Task)

    async def until(self, number: int, *statuses: str, within_s: float = 15) -> Task:
        """Wait until the task has one of these statuses."""
        return await eventually(
            lambda: self.task(number), lambda task: task.status in statuses, within_s
        )

    async def open(self, *labels: str, **fields: Any) -> str:
        """Open a session."""
        body = {"agent": "tester", "labels": labels, "slots": 4} | fields
        return (await self.post("/sessions", body)).as_(SessionOpened).session

    async def claim(
        self, session: str, slots: int = 1, wait: float = 0, ahead: int = 0
    ) -> list[ClaimedTask]:
        """Take tasks."""
        body = {"session": session, "slots": slots, "wait": wait, "ahead": ahead}
        return list((await self.post("/claims", body)).as_(ClaimReply).tasks)

    async def beat(self, session: str, **fields: Any) -> BeatReply:
        """Say that the agent lives."""
        return (await self.post("/beats", {"session": session} | fields)).as_(BeatReply)

    async def report(
        self, session: str, chunks: Sequence[object] = (), results: Sequence[object] = ()
    ) -> list[str]:
        """Hand in chunks and results as msgpack; the verdicts, chunks first."""
        report = {"session": session, "chunks": chunks, "results": results}
        reply = await self.call(
            "POST", "/reports", data=msgspec.msgpack.encode(report),
            headers={"Content-Type": MSGPACK},
        )  # fmt: skip
        verdicts = reply.as_(ReportReply)
        return [each.verdict for each in (*verdicts.chunks, *verdicts.results)]

    async def log(self, number: int, **query: Any) -> str:
        """A log as text."""
        return (await self.call("GET", f"/tasks/{number}/logs", params=query)).text

    async def started(self, **fields: Any) -> tuple[str, ClaimedTask]:
        """Submit a task that only a new session of its own can take, and take it."""
        label = f"only-{next(_numbers)}"
        number = await self.submit(needs=[label], **fields)
        session = await self.open(label)
        (task,) = await self.claim(session, wait=10)
        assert task.id == number
        return session, task


_JSON = {"Content-Type": "application/json"}


@asynccontextmanager
async def serving(folder: Path, settings: Settings, **granian: Any) -> AsyncIterator[Api]:
    """Serve on a unix socket in `folder`, so that no test can meet another one's port.

    `granian`: more of its own settings.
    """
    address = folder / f"{next(_numbers)}.sock"
    server = Server(
        create_app(settings), uds=address, interface=Interfaces.ASGI, http=HTTPModes.http1,
        websockets=False, log_enabled=False, **granian,
    )  # fmt: skip
    headers = {"Authorization": f"Bearer {settings.token}"} if settings.token else {}
    connector = aiohttp.UnixConnector(str(address), limit=0)
    running = asyncio.ensure_future(server.serve())
    try:
        async with aiohttp.ClientSession(connector=connector, headers=headers) as http:
            api = Api(http)
            await eventually(lambda: _ready(api, running), bool)
            yield api
    finally:
        server.stop()  # type: ignore[no-untyped-call]  # untyped in the package
        await running


async def _ready(api: Api, running: "asyncio.Future[None]") -> bool:
    if running.done():
        running.result()
        raise AssertionError("the server ended before it answered")
    with suppress(OSError, aiohttp.ClientError):
        return (await api.call("GET", "/health/ready")).status == 200
    return False
