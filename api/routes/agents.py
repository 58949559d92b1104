"""The routes of agents: sessions, beats, claims, reports."""

from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, get, post
from litestar.params import FromPath, FromQuery

from api import access, bodies
from api.access import who_asks
from api.problems import ProblemError, not_found
from api.routes.described import body
from api.routes.services import Services, services, while_connected
from api.routes.tasks import Text
from api.store import sessions as session_store
from api.submissions import check_labels
from schema.claims import ClaimReply, ClaimRequest
from schema.reports import Report, ReportReply
from schema.sessions import Agent, Beat, BeatReply, DrainAsked, SessionOpen, SessionOpened

_session_open = msgspec.json.Decoder(SessionOpen)
_beat = msgspec.json.Decoder(Beat)
_claim = msgspec.json.Decoder(ClaimRequest)
_report_json = msgspec.json.Decoder(Report)
_report_msgpack = msgspec.msgpack.Decoder(Report)

MSGPACK = "application/msgpack"
_SESSION = "d0k6l6Uu0o4JmJ2v3CXl2g"


@post(
    "/sessions",
    tags=["agents"],
    opt=access.AGENT,
    operation_class=body(SessionOpen, {"agent": "pixel-wall-3", "labels": ["android"], "slots": 4}),
)
async def open_session(request: Request[Any, Any, Any]) -> SessionOpened:
    """Start one life of an agent. Keep the id secret: it is all that later requests must prove."""
    found = services(request)
    sent = await bodies.decoded(request, _session_open, found.small)
    check_labels(sent.labels, "$.labels")
    return await found.sessions.open(sent, who_asks(request).token)


@post(
    "/beats",
    tags=["agents"],
    opt=access.AGENT,
    status_code=200,
    operation_class=body(
        Beat, {"session": _SESSION, "held": [[17, 1]], "wait": 20}, problems="410 429"
    ),
)
async def beat(request: Request[Any, Any, Any]) -> BeatReply:
    """Say what is held; be told, at once or when it happens, what to cancel, or to drain."""
    found = services(request)
    sent = await bodies.decoded(request, _beat, found.small)
    beat_ = found.sessions.beat(sent, who_asks(request).token)
    return await (while_connected(request, beat_) if sent.wait else beat_)


@post(
    "/claims",
    tags=["agents"],
    opt=access.AGENT,
    status_code=200,
    operation_class=body(
        ClaimRequest, {"session": _SESSION, "slots": 4, "wait": 20}, problems="410 429"
    ),
)
async def claim(request: Request[Any, Any, Any]) -> ClaimReply:
    """Take up to `slots` tasks and some ahead, and wait for the first one if there is none."""
    found = services(request)
    sent = await bodies.decoded(request, _claim, found.small)
    if not sent.slots + sent.ahead:
        raise ProblemError(
            HTTPStatus.BAD_REQUEST, "the body: `slots` or `ahead` must be at least 1 - at `$.slots`"
        )
    session = await found.sessions.find(sent.session, who_asks(request).token)
    tasks = await found.claims.take(
        session,
        sent.slots,
        sent.wait,
        ahead=sent.ahead,
        watched=lambda wait: while_connected(request, wait),
    )
    return ClaimReply(await found.delivery.prepare(session.number, tasks))


@post(
    "/reports",
    tags=["agents"],
    opt=access.AGENT,
    status_code=200,
    operation_class=body(
        Report,
        {
            "session": _SESSION,
            "results": [{"lease": "17.1.739943.3.c2lnbmF0dXJl", "reason": "exit", "exit_code": 0}],
        },
        "application/json",
        MSGPACK,
        problems="410",
    ),
)
async def report(request: Request[Any, Any, Any]) -> ReportReply:
    """Hand in log chunks and results; one verdict each, in order, when they are committed."""
    found = services(request)
    kind = bodies.header(request, b"content-type").partition(";")[0].strip()
    if kind not in {MSGPACK, "application/json"}:
        raise ProblemError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"Content-Type {kind!r}: send {MSGPACK} or application/json",
        )
    decoder = found.reports.decoder(_report_msgpack if kind == MSGPACK else _report_json)
    received = await bodies.decoded(request, decoder, found.large, counted=kind != MSGPACK)
    await found.sessions.find(received.report.session, who_asks(request).token)
    return await found.reports.accept(received)


@get("/agents", tags=["agents"], opt=access.READ)
async def list_agents(
    request: Request[Any, Any, Any], *, ended: FromQuery[bool] = False, name: Text = None
) -> list[Agent]:
    """Agents that live, newest first, at most 1,000; with `ended`, also those that were."""
    async with services(request).database.reading() as connection:
        return await session_store.list_sessions(connection, ended=ended, name=name)


@post("/agents/{name:str}/drain", status_code=200, tags=["agents"], opt=access.ADMIN)
async def drain_agent(request: Request[Any, Any, Any], name: FromPath[str]) -> DrainAsked:
    """Ask agents to hand back what has not started, to finish what runs, and to end.

    It holds for one life of them: started again, they work. A slash in a name is written `%252F`.
    """
    name = name.replace("%2F", "/")  # one that was encoded once parts the path already
    return await drain(services(request), name, who_asks(request).name)


async def drain(found: Services, name: str, who: str) -> DrainAsked:
    """Ask all live agents of that name for somebody; a 404 problem."""
    sessions: list[int] = []
    if "\0" not in name:  # PostgreSQL's text has none
        async with found.database.acquire() as connection:
            sessions = await session_store.drain_agent(connection, name, who)
    if not sessions:
        raise not_found(f"there is no live agent {name!r}")
    found.notices.sessions_changed(sessions)
    return DrainAsked(len(sessions))


HANDLERS = [open_session, beat, claim, report, list_agents, drain_agent]
