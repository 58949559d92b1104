"""A small API that speaks the agents' wire over real HTTP, and fails on demand.

It checks what it is sent as strictly as the real one: what an agent must never do is noted in
`wrongs`, which every test expects to be empty.
"""

import asyncio
import contextlib
import zlib
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import msgspec
from aiohttp import web

from schema import marks
from schema.claims import ClaimedTask, ClaimReply, ClaimRequest
from schema.problems import Problem
from schema.reports import LogChunk, Report, ReportReply, Result, Verdict
from schema.sessions import Beat, BeatReply, Held, SessionOpen, SessionOpened

Answer = Callable[[], Awaitable[web.Response]]
Fault = Callable[[web.Request, Answer], Awaitable[web.Response]]
"""Stands between a request and its answer."""


class CutError(Exception):
    """The connection is cut instead of an answer."""


async def cut(request: web.Request, answer: Answer) -> web.Response:
    """Cut the connection before anything is done."""
    raise CutError


async def lose(request: web.Request, answer: Answer) -> web.Response:
    """Do what is asked, and cut the connection instead of the answer."""
    await answer()
    raise CutError


def refuse(status: int, headers: dict[str, str] | None = None) -> Fault:
    """Answer with a problem."""

    async def fault(request: web.Request, answer: Answer) -> web.Response:
        return problem(status, "told to by the test", headers)

    return fault


def problem(status: int, why: str, headers: dict[str, str] | None = None) -> web.Response:
    """Make a problem document."""
    body = msgspec.json.encode(Problem(status=status, title="fake", detail=why))
    return web.Response(
        status=status, body=body, content_type="application/problem+json", headers=headers
    )


class FakeApi:
    """What the API knows; a test reads it and awaits what it is to become."""

    def __init__(self) -> None:
        self.url = ""
        self.lease_s = 30.0
        self.max_log_bytes: int | None = None
        self.pending: deque[ClaimedTask] = deque()
        self.sessions: list[SessionOpen] = []
        self.live: set[str] = set()
        self.owned: dict[Held, tuple[ClaimedTask, str]] = {}
        self.cancelled: set[Held] = set()
        self.drain = False
        self.flush_ms = 5000
        self.redeliver_most = 1000
        self.chunks: dict[tuple[Held, str], dict[int, bytes]] = defaultdict(dict)
        self.marks: list[list[marks.Mark]] = []
        self.results: dict[Held, list[Result]] = defaultdict(list)
        self.requests: list[tuple[str, Any]] = []
        self.tokens: set[str | None] = set()
        self.given: Counter[Held] = Counter()
        self.wrongs: list[str] = []
        self.faults: dict[str, deque[Fault]] = defaultdict(deque)
        """By path: each is used up by one request."""
        self.standing: dict[str, Fault] = {}
        """By path: used by every request."""
        self.away = False
        """Cut every connection."""
        self.refuse_chunk: Callable[[LogChunk], Verdict | None] = lambda chunk: None
        self._changed = asyncio.Event()
        self._ids = count(1)

    # What tests do

    def add(self, command: str, **fields: Any) -> int:
        """Make a task to be claimed."""
        number = next(self._ids)
        task = ClaimedTask(id=number, attempt=1, lease=f"{number}.1", command=command, **fields)
        self.pending.append(task)
        self.poke()
        return number

    def log(self, task: int, stream: str = "stdout", attempt: int = 1) -> bytes:
        """Put the chunks together; they must follow one another."""
        whole = b""
        for offset, data in sorted(self.chunks[(task, attempt), stream].items()):
            assert offset == len(whole), f"bytes {len(whole)}-{offset} of {stream} are missing"
            whole += data
        return whole

    async def result(self, task: int, attempt: int = 1) -> Result:
        """Await the result of an attempt."""
        await self.until(lambda: bool(self.results.get((task, attempt))), f"result of {task}")
        return self.results[task, attempt][-1]

    async def until(self, true: Callable[[], bool], what: str = "", timeout_s: float = 20) -> None:
        """Await a condition that a request or `poke` may bring about."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._wait(true)
        except TimeoutError:
            state = {name: value for name, value in vars(self).items() if name != "requests"}
            raise AssertionError(f"never came true: {what}\n{state}") from None

    def poke(self) -> None:
        """Let everybody who waits look again."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _wait(self, true: Callable[[], bool]) -> None:
        while not true():
            await self._changed.wait()

    def end_sessions(self) -> None:
        """Declare all sessions dead; what they held is claimable again as a further attempt."""
        for name in tuple(self.live):
            self._end_session(name)
        self.poke()

    def _end_session(self, name: str) -> None:
        self.live.discard(name)
        for (task_id, attempt), (task, owner) in tuple(self.owned.items()):
            if owner != name:
                continue
            del self.owned[task_id, attempt]
            again = attempt + 1
            self.pending.append(
                msgspec.structs.replace(task, attempt=again, lease=f"{task_id}.{again}")
            )

    # Routes

    async def handle(self, request: web.Request) -> web.Response:
        """Count, fail if told to, answer."""
        path = request.path.removeprefix("/prefix")
        self.tokens.add(request.headers.get("Authorization"))
        data = await request.read()

        async def answer() -> web.Response:
            response = await ROUTES[path](self, data)
            self.poke()
            return response

        try:
            if self.away:
                return await cut(request, answer)
            if path in self.standing:
                return await self.standing[path](request, answer)
            if self.faults[path]:
                return await self.faults[path].popleft()(request, answer)
            return await answer()
        except CutError:
            self.poke()
            assert request.transport is not None
            request.transport.abort()
            return web.Response()

    async def _open(self, data: bytes) -> web.Response:
        body = msgspec.json.decode(data, type=SessionOpen)
        self.sessions.append(body)
        if body.replaces is not None:
            self._end_session(body.replaces)
        name = f"session-{len(self.sessions)}"
        self.live.add(name)
        return _json(SessionOpened(name, self.lease_s, self.max_log_bytes))

    async def _beat(self, data: bytes) -> web.Response:
        body = msgspec.json.decode(data, type=Beat)
        self.requests.append(("beat", body))
        if body.session not in self.live:
            return problem(410, "no such session")
        if body.closing:
            mine = [key for key, (_, owner) in self.owned.items() if owner == body.session]
            if mine and not body.replaced:
                self.wrongs.append(f"closed while it held {mine}")
            self._end_session(body.session)
            return _json(BeatReply(lease_s=0))
        self.poke()
        held = body.held
        flush_ms = self.flush_ms

        def news() -> BeatReply | None:
            owned = {key: task for key, (task, who) in self.owned.items() if who == body.session}
            cancel = {key for key in owned if key in self.cancelled}
            redeliver: list[ClaimedTask] = []
            if held is not None:
                redeliver = [task for key, task in owned.items() if key not in held]
                del redeliver[self.redeliver_most :]
                cancel |= set(held) - set(owned)
            wishes = cancel - set(body.cancelling) or redeliver
            if wishes or (self.drain and not body.draining) or self.flush_ms != flush_ms:
                return BeatReply(
                    lease_s=self.lease_s,
                    cancel=tuple(sorted(cancel)),
                    redeliver=tuple(redeliver),
                    drain=self.drain,
                    flush_ms=self.flush_ms,
                )
            return None

        reply = news()
        held = None  # compared once
        if reply is None:
            await self._park(
                lambda: news() is not None or body.session not in self.live,
                min(body.wait, self.lease_s / 3),
            )
            if body.session not in self.live:
                return problem(410, "the session ended")
            reply = news()
        return _json(reply or BeatReply(lease_s=self.lease_s, flush_ms=self.flush_ms))

    async def _claim(self, data: bytes) -> web.Response:
        body = msgspec.json.decode(data, type=ClaimRequest)
        self.requests.append(("claim", body))
        self.poke()
        await self._park(lambda: bool(self.pending) or body.session not in self.live, body.wait)
        if body.session not in self.live:
            return problem(410, "no such session")
        tasks = [
            self.pending.popleft() for _ in range(min(body.slots + body.ahead, len(self.pending)))
        ]
        for task in tasks:
            self.owned[task.id, task.attempt] = (task, body.session)
            self.given[task.id, task.attempt] += 1
        return _json(ClaimReply(tuple(tasks)))

    async def _report(self, data: bytes) -> web.Response:
        body = msgspec.msgpack.decode(data, type=Report)
        self.requests.append(("report", body))
        if body.session not in self.live:
            return problem(410, "no such session")
        refused: set[str] = set()
        chunks = []
        for chunk in body.chunks:
            verdict = self.refuse_chunk(chunk) or self._store(chunk)
            if verdict.verdict not in {"ok", "duplicate"}:
                refused.add(chunk.lease)
            chunks.append(verdict)
        results = [
            Verdict("conflict", "a chunk was refused") if one.lease in refused else self._end(one)
            for one in body.results
        ]
        return _json(ReportReply(tuple(chunks), tuple(results)))

    def _store(self, chunk: LogChunk) -> Verdict:
        task, attempt = map(int, chunk.lease.split("."))
        inflate = zlib.decompressobj(31)
        data = inflate.decompress(chunk.content)
        if not data or inflate.unused_data or not inflate.eof:
            self.wrongs.append(f"not exactly one gzip member: {chunk}")
        decoded = marks.decode(chunk.marks)
        marks.check(decoded, len(data))
        self.marks.append(decoded)
        stream = self.chunks[(task, attempt), chunk.stream]
        if chunk.offset not in stream:
            stream[chunk.offset] = data
            return Verdict("ok")
        if not chunk.resent:
            self.wrongs.append(f"came twice without saying so: {chunk}")
        return Verdict("duplicate" if stream[chunk.offset] == data else "conflict")

    def _end(self, result: Result) -> Verdict:
        task, attempt = map(int, result.lease.split("."))
        key = (task, attempt)
        if key not in self.owned:
            known = self.results.get(key)
            return Verdict("duplicate" if known and known[-1] == result else "stale")
        for name, total in (("stdout", result.stdout), ("stderr", result.stderr)):
            whole = self.log(task, name, attempt) if total else b""
            if total and (len(whole), zlib.crc32(whole)) != (total.bytes, total.crc):
                self.wrongs.append(f"{name} of {key} was declared as {total}, is {len(whole)} B")
        self.results[key].append(result)
        if len(self.results[key]) > 1:
            self.wrongs.append(f"{key} ended twice")
        del self.owned[key]
        if result.reason == "returned":
            again = attempt + 1
            self.pending.append(
                ClaimedTask(id=task, attempt=again, lease=f"{task}.{again}", command="true")
            )
        return Verdict("ok")

    async def _park(self, true: Callable[[], bool], wait_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._wait(true)


Route = Callable[[FakeApi, bytes], Awaitable[web.Response]]
ROUTES: dict[str, Route] = {
    "/sessions": FakeApi._open,
    "/beats": FakeApi._beat,
    "/claims": FakeApi._claim,
    "/reports": FakeApi._report,
}


def _json(body: msgspec.Struct) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), content_type="application/json")


@asynccontextmanager
async def serve() -> AsyncIterator[FakeApi]:
    """Listen on a free port of the loopback."""
    fake = FakeApi()
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/{path:.*}", fake.handle)
    # A parked request ends with its client, as in the real API.
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    fake.url = f"http://{host}:{port}"
    try:
        yield fake
    finally:
        await runner.cleanup()
