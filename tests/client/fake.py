"""A small server that speaks the people's routes, for tests of what stands on the other side."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import msgspec
from aiohttp import web

from schema.explain import Ended, Explanation, Why
from schema.logs import (
    AttemptBegun,
    LogLine,
    LogOver,
    LogPage,
    Output,
    Piece,
    TaskEnded,
    TaskNow,
)
from schema.problems import Problem
from schema.queue import Queue, QueueLane
from schema.sessions import Agent, DrainAsked
from schema.tasks import (
    FINAL,
    INFRASTRUCTURE,
    Group,
    GroupCancelled,
    GroupPage,
    GroupRetried,
    GroupRetry,
    LogState,
    Retry,
    Stream,
    StreamLog,
    Submission,
    Submitted,
    Task,
    TaskPage,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Fake:
    """What the server knows, for a test to look at and to change while it runs."""

    def __init__(self) -> None:
        self.tasks: dict[int, Task] = {}
        self.keys: dict[str, int] = {}
        self.logs: dict[tuple[int, int, Stream], bytes] = {}
        self.missing: dict[Stream, tuple[tuple[int, int], ...]] = {}
        self.log_state: LogState = "complete"
        self.scripts: list[list[bytes]] = []
        """Each is what one connection to live logs sends before it breaks."""
        self.positions: list[str | None] = []
        """`Last-Event-ID` of each of them."""
        self.secrets: dict[str, str] = {}
        """Of all submissions."""
        self.agents: list[Agent] = []
        self.seen: list[str] = []
        """Method and path with query of every request, in order."""
        self.authorization: list[str | None] = []
        self.faults: list[Callable[[web.Request], Awaitable[web.StreamResponse | None]]] = []
        """Each is used up by one request; null lets it through."""
        self.on_request: Callable[[web.Request], None] = lambda request: None
        self.why: tuple[Why, ...] = ()
        """Of every task that waits."""
        self.too_many = False
        """No group can be followed."""
        self.url = ""

    def add(self, **fields: object) -> Task:
        """Make a task as if it was there before."""
        base = {"id": len(self.tasks) + 1, "status": "pending", "command": "true", "attempt": 0}
        base |= {"priority": 5, "max_attempts": 1, "submitted_at": NOW}
        task = msgspec.convert(base | fields, Task)
        self.tasks[task.id] = task
        return task

    def add_agent(self, name: str, **fields: object) -> None:
        """Let an agent live."""
        base = {"labels": (), "slots": 16, "running": 0, "version": "1", "alive": True}
        base |= {"agent": name, "drain": False, "opened_at": NOW, "seen_at": NOW}
        self.agents.append(msgspec.convert(base | fields, Agent))

    def change(self, task_id: int, **fields: object) -> None:
        """Let the task move on."""
        self.tasks[task_id] = msgspec.structs.replace(self.tasks[task_id], **fields)

    def log(self, task_id: int, stream: Stream, data: bytes, attempt: int = 1) -> None:
        """Let the task write more."""
        place = (task_id, attempt, stream)
        self.logs[place] = self.logs.get(place, b"") + data

    def count(self, start: str) -> int:
        """How many requests began so."""
        return sum(one.startswith(start) for one in self.seen)


@web.middleware
async def _watch(request: web.Request, handler: Handler) -> web.StreamResponse:
    fake = request.app[FAKE]
    fake.seen.append(f"{request.method} {request.rel_url}")
    fake.authorization.append(request.headers.get("Authorization"))
    fake.on_request(request)
    if fake.faults:
        answer = await fake.faults.pop(0)(request)
        if answer is not None:
            return answer
    return await handler(request)


FAKE = web.AppKey("fake", Fake)


def reply(value: object, status: int = 200) -> web.Response:
    """JSON, as the API writes it."""
    kind = "application/problem+json" if isinstance(value, Problem) else "application/json"
    return web.Response(body=msgspec.json.encode(value), status=status, content_type=kind)


def problem(
    status: int, title: str, detail: str = "", retry_after: float | None = None
) -> web.Response:
    """Make a problem document."""
    return reply(
        Problem(status=status, title=title, detail=detail, retry_after=retry_after), status
    )


async def _submit(request: web.Request) -> web.Response:
    fake, answers = request.app[FAKE], []
    try:
        given = msgspec.json.decode(await request.read(), type=list[Submission])
    except msgspec.ValidationError as error:
        return problem(400, "Invalid submission", str(error))
    for one in given:
        assert one.key is not None
        created = one.key not in fake.keys
        if created:
            kept = (
                "command", "name", "group", "key", "timeout", "no_output_timeout", "isolation",
                "image",
            )  # fmt: skip
            fields = {name: getattr(one, name) or None for name in kept}
            fields["secrets"] = tuple(one.hidden)
            fake.secrets |= one.hidden
            fake.keys[one.key] = fake.add(**fields).id
        task_id = fake.keys[one.key]
        answers.append(Submitted(task_id, fake.tasks[task_id].status, created))
    return reply(answers, 201)


async def _list(request: web.Request) -> web.Response:
    query = request.query
    ids = {int(one) for one in query.getall("id", [])}
    found = [
        task
        for task in sorted(request.app[FAKE].tasks.values(), key=lambda task: -task.id)
        if (not ids or task.id in ids)
        and task.status in query.getall("status", [task.status])
        and query.get("group", task.group) == task.group
        and query.get("name", task.name) == task.name
        and task.id < int(query.get("cursor", 2**62))
    ]
    limit = int(query.get("limit", 100))
    after = str(found[limit - 1].id) if len(found) > limit else None
    return reply(TaskPage(tuple(found[:limit]), after))


def _known(request: web.Request) -> Task:
    task = request.app[FAKE].tasks.get(int(request.match_info["id"]))
    if task is None:
        detail = f"there is no task {request.match_info['id']}"
        unknown = Problem(status=404, title="Not Found", detail=detail)
        raise web.HTTPNotFound(text=msgspec.json.encode(unknown).decode())
    return task


def _logs_of(fake: Fake, task: Task) -> dict[Stream, StreamLog]:
    state = fake.log_state if task.status in FINAL else "open"
    return {
        stream: StreamLog(
            state=state,
            bytes=len(data),
            lines=data.count(b"\n"),
            missing=fake.missing.get(stream, ()),
        )
        for (task_id, attempt, stream), data in fake.logs.items()
        if (task_id, attempt) == (task.id, task.attempt)
    }


async def _task(request: web.Request) -> web.Response:
    fake = request.app[FAKE]
    task = _known(request)
    return reply(
        msgspec.structs.replace(task, logs=_logs_of(fake, task), attempts=task.attempts or ())
    )


async def _logs(request: web.Request) -> web.StreamResponse:
    fake, query, task = request.app[FAKE], request.query, _known(request)
    attempt = int(query.get("attempt", task.attempt))
    both: tuple[Stream, ...] = ("stdout", "stderr")
    streams = [one for one in both if query.get("stream", one) == one]
    data = b"".join(fake.logs.get((task.id, attempt, one), b"") for one in streams)
    missing = fake.missing.get(streams[0], ()) if len(streams) == 1 else ()
    offset = int(query.get("offset", 0))
    data = data[
        offset - sum(min(offset, end) - first for first, end in missing if first < offset) :
    ]
    if "grep" in query:
        wanted = query["grep"].encode()
        data = b"".join(line for line in data.splitlines(keepends=True) if wanted in line)
    if "tail" in query:
        data = b"".join(data.splitlines(keepends=True)[-int(query["tail"]) :])
    out = web.StreamResponse()
    out.headers["Log-State"] = fake.log_state if task.status in FINAL else "open"
    if missing and task.status in FINAL:
        ranges = (f"{streams[0]}={first}-{end - 1}" for first, end in missing)
        out.headers["Log-Missing"] = ", ".join(ranges)
    out.content_type = "text/plain"
    await out.prepare(request)
    for start in range(0, len(data), 100_000):
        await out.write(data[start : start + 100_000])
    return out


async def _live(request: web.Request) -> web.StreamResponse:
    """Tell of one task what there is, and then what changes, from the position that is brought."""
    fake, task = request.app[FAKE], _known(request)
    position = request.headers.get("Last-Event-ID")
    fake.positions.append(position)
    out = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await out.prepare(request)
    await out.write(b"retry: 1000\n\n: a comment\n\n")
    if fake.scripts:
        for frame in fake.scripts.pop(0):
            await out.write(frame)
        assert request.transport is not None
        request.transport.close()
        return out
    status, sent, attempt = None, {"stdout": 0, "stderr": 0}, 0
    while True:
        task = fake.tasks[task.id]
        if task.status != status:
            status = task.status
            await out.write(event("status", now(task)))
        if task.attempt != attempt:
            attempt = task.attempt
            begun = AttemptBegun(task=task.id, attempt=attempt, agent=None, started_at=None)
            await out.write(event("attempt", begun, attempt))
        both: tuple[Stream, ...] = ("stdout", "stderr")
        for stream in both:
            data = fake.logs.get((task.id, attempt, stream), b"")[sent[stream] :]
            if data and request.query.get("stream", stream) == stream:
                await out.write(output(task.id, attempt, stream, data, sent[stream]))
                sent[stream] += len(data)
        if task.status in FINAL:
            break
        await asyncio.sleep(0.005)
    await out.write(event("log", LogOver(task=task.id, attempt=attempt, state=fake.log_state), 1))
    await out.write(event("end", ended(task), "end"))
    return out


def event(name: str, data: object, id_: object = None) -> bytes:
    """A server-sent event."""
    text = f"event: {name}\ndata: ".encode() + msgspec.json.encode(data)
    return text + (b"" if id_ is None else f"\nid: {id_}".encode()) + b"\n\n"


def output(
    task_id: int, attempt: int, stream: Stream, data: bytes, offset: int = 0, id_: object = 1
) -> bytes:
    """The event for some output, all of it in base64 too."""
    piece = Piece(stream=stream, offset=offset, at_us=0, line=1,
                  text=data.decode(errors="replace"), base64=data)  # fmt: skip
    return event("output", [Output(task_id, attempt, (piece,))], id_)


def now(task: Task) -> TaskNow:
    """What the event `status` has."""
    return TaskNow(
        task=task.id, status=task.status, attempt=task.attempt, agent=task.agent,
        cancel_requested=task.cancel_requested, reason=task.reason, run_after=None, started_at=None,
    )  # fmt: skip


def ended(task: Task) -> TaskEnded:
    """What the event `end` has."""
    return TaskEnded(
        task=task.id, status=task.status, attempt=task.attempt, agent=task.agent,
        reason=task.reason, exit_code=task.exit_code, signal=task.signal, message=None,
        started_at=None, finished_at=None, run_s=None,
    )  # fmt: skip


async def _live_group(request: web.Request) -> web.StreamResponse:
    """Only what a test wrote down."""
    fake = request.app[FAKE]
    fake.positions.append(request.headers.get("Last-Event-ID"))
    if fake.too_many:
        return problem(422, "Unprocessable Entity", "more than 10000 tasks")
    if not fake.scripts:
        return problem(404, "Not Found", f"there is no group {request.match_info['name']!r}")
    out = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await out.prepare(request)
    for frame in fake.scripts.pop(0):
        await out.write(frame)
    return out


async def _group_logs(request: web.Request) -> web.Response:
    """Whatever was asked for, so that a test can look at it."""
    query = " ".join(f"{name}={value}" for name, value in sorted(request.query.items()))
    return web.Response(text=f"{request.match_info['name']} {query}\n")


async def _explain(request: web.Request) -> web.Response:
    fake, task = request.app[FAKE], _known(request)
    reasons: tuple[Why, ...] = fake.why
    if task.status in FINAL:
        reasons = (Ended(text="It is over.", status=task.status, reason=None, finished_at=None),)
    text = " ".join(each.text for each in reasons)
    return reply(Explanation(task.id, task.status, text, reasons))


async def _cancel(request: web.Request) -> web.Response:
    fake, task = request.app[FAKE], _known(request)
    if task.status == "in_progress":
        fake.change(task.id, cancel_requested=True)
    elif task.status not in FINAL:
        fake.change(task.id, status="cancelled", reason="cancelled")
    return reply(fake.tasks[task.id])


async def _retry(request: web.Request) -> web.Response:
    fake, task = request.app[FAKE], _known(request)
    after = msgspec.json.decode(await request.read(), type=Retry).after_attempt
    if after != task.attempt:
        return problem(409, "Another attempt", f"attempt {task.attempt} is the newest")
    if task.status not in FINAL and task.status != "pending":
        return problem(409, "Not finished", "a retry follows a finished attempt")
    fake.change(task.id, status="pending")
    return reply(fake.tasks[task.id])


def _counted(fake: Fake, name: str) -> Group:
    tasks = [task for task in fake.tasks.values() if task.group == name]
    lost = sum(task.status == "failed" and task.reason in INFRASTRUCTURE for task in tasks)
    over = all(task.status in FINAL for task in tasks)
    return Group(
        name=name,
        counts=dict(Counter(task.status for task in tasks)),
        infrastructure=lost,
        total=len(tasks),
        submitted_at=NOW,
        finished_at=NOW + timedelta(seconds=90) if over else None,
        counted_at=NOW + timedelta(seconds=90),
    )


async def _group(request: web.Request) -> web.Response:
    fake, name = request.app[FAKE], request.match_info["name"]
    tasks = [task for task in fake.tasks.values() if task.group == name]
    if not tasks:
        return problem(404, "Not Found", f"there is no group {name!r}")
    found = _counted(fake, name)
    if "slowest" in request.query:
        ran = sorted((task for task in tasks if task.run_s), key=lambda task: -(task.run_s or 0))
        found = msgspec.structs.replace(found, slowest=tuple(ran))
    return reply(found)


async def _groups(request: web.Request) -> web.Response:
    """Newest first, as far as they have tasks."""
    names = list(dict.fromkeys(
        task.group for task in reversed(request.app[FAKE].tasks.values()) if task.group is not None
    ))  # fmt: skip
    found = [name for name in names if request.query.get("contains", "").lower() in name.lower()]
    groups = tuple(_counted(request.app[FAKE], name) for name in found)
    return reply(GroupPage(groups[: int(request.query.get("limit", 20))], None))


async def _cancel_group(request: web.Request) -> web.Response:
    fake, name = request.app[FAKE], request.match_info["name"]
    tasks = [task for task in fake.tasks.values() if task.group == name]
    if not tasks:
        return problem(404, "Not Found", f"there is no group {name!r}")
    waits = [task for task in tasks if task.status in {"pending", "scheduled"}]
    runs = [task for task in tasks if task.status == "in_progress"]
    for task in waits:
        fake.change(task.id, status="cancelled", reason="cancelled")
    for task in runs:
        fake.change(task.id, cancel_requested=True)
    return reply(GroupCancelled(name, len(waits), len(runs)))


async def _retry_group(request: web.Request) -> web.Response:
    fake, name = request.app[FAKE], request.match_info["name"]
    wanted = msgspec.json.decode(await request.read(), type=GroupRetry)
    assert wanted.ended_before is not None
    chosen = [
        task for task in fake.tasks.values() if task.group == name and task.status in wanted.status
    ]
    for task in chosen:
        fake.change(task.id, status="pending")
    return reply(GroupRetried(name, len(chosen)))


async def _queue(request: web.Request) -> web.Response:
    counts = Counter(task.status for task in request.app[FAKE].tasks.values())
    lanes = (QueueLane(needs=("gpu",), pending=counts["pending"], oldest=NOW),)
    return reply(
        Queue(
            pending=counts["pending"],
            scheduled=counts["scheduled"],
            in_progress=counts["in_progress"],
            lanes=lanes if counts["pending"] else (),
        )
    )


async def _metrics(request: web.Request) -> web.Response:
    """Counters that grow with each look."""
    count = request.app[FAKE].count("GET /metrics")
    return web.Response(
        text="# TYPE dw_tasks_submitted_total counter\n"
        f"dw_tasks_submitted_total {100 * count}.0\n"
        "# TYPE dw_results_total counter\n"
        f'dw_results_total{{verdict="ok"}} {50 * count}.0\n'
        f'dw_results_total{{verdict="stale"}} {7 * count}.0\n'
    )


async def _lines(request: web.Request) -> web.Response:
    """Whole lines of stdout; three a page."""
    fake, task, query = request.app[FAKE], _known(request), request.query
    text = fake.logs.get((task.id, task.attempt, "stdout"), b"").decode().splitlines()
    most = min(3, int(query.get("lines", 3)))
    first = len(text) - most + 1 if "tail" in query else int(query.get("line", 1))
    first = max(1, first)
    page = tuple(
        LogLine(line=number, stream="stdout", at_us=0, offset=0, text=text[number - 1])
        for number in range(first, min(first + most, len(text) + 1))
    )
    after = first + most if first + most <= len(text) else None
    return reply(LogPage(task=task.id, attempt=task.attempt, state=fake.log_state,
                         total=len(text), lines=page, next=after, after=None))  # fmt: skip


async def _agents(request: web.Request) -> web.Response:
    named = request.query.get("name")
    return reply([one for one in request.app[FAKE].agents if named in {None, one.agent}])


async def _drain(request: web.Request) -> web.Response:
    fake, name = request.app[FAKE], request.match_info["name"].replace("%2F", "/")
    live = [one for one in fake.agents if one.agent == name and one.alive]
    if not live:
        return problem(404, "Not Found", f"there is no live agent {name!r}")
    fake.agents = [
        msgspec.structs.replace(one, drain=one.drain or one in live) for one in fake.agents
    ]
    return reply(DrainAsked(len(live)))


@asynccontextmanager
async def serve() -> AsyncIterator[Fake]:
    """Start a fake that listens on a free port of this machine."""
    fake = Fake()
    app = web.Application(middlewares=[_watch], client_max_size=2**24)
    app[FAKE] = fake
    app.add_routes(
        [
            web.post("/tasks", _submit),
            web.get("/tasks", _list),
            web.get(r"/tasks/{id:\d+}", _task),
            web.get(r"/tasks/{id:\d+}/logs", _logs),
            web.post(r"/tasks/{id:\d+}/cancel", _cancel),
            web.post(r"/tasks/{id:\d+}/retry", _retry),
            web.get(r"/tasks/{id:\d+}/logs/live", _live),
            web.get(r"/tasks/{id:\d+}/explain", _explain),
            web.get(r"/tasks/{id:\d+}/logs/lines", _lines),
            web.get("/queue", _queue),
            web.get("/metrics", _metrics),
            web.get("/groups", _groups),
            web.post("/groups/{name}/cancel", _cancel_group),
            web.post("/groups/{name}/retry", _retry_group),
            web.get("/groups/{name}", _group),
            web.get("/groups/{name}/logs", _group_logs),
            web.get("/groups/{name}/logs/live", _live_group),
            web.get("/agents", _agents),
            web.post("/agents/{name}/drain", _drain),
        ]
    )
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield fake
    finally:
        await runner.cleanup()


async def until(condition: Callable[[], bool], state: Callable[[], object]) -> None:
    """Return when the condition holds; after ten seconds, fail with the last state."""
    try:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"gave up waiting: {state()!r}") from None
