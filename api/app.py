"""Puts one worker process together."""

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from litestar import Litestar, Router
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme

from api import cookies
from api.access import READ, guard
from api.bodies import limits_of
from api.claims import Claims
from api.console.page import UNKNOWN
from api.console.rendering import templates
from api.console.routes import routers
from api.database import AWAY, Database
from api.delivery import Delivery
from api.front import Front
from api.gate import Gate
from api.lanes import Lanes
from api.live.audience import Audience
from api.live.groups import Groups
from api.live.service import Live
from api.log_limit import CutMarks, PulledLogs
from api.metrics import watch_depths
from api.notices import Notices
from api.problems import HANDLERS
from api.pulled import PulledAttempts
from api.reaper import Reaper
from api.reports import Reports
from api.room import Room
from api.routes import (
    agents,
    audit,
    compat,
    described,
    explain,
    group_changes,
    groups,
    health,
    logs,
    queue,
    tasks,
    tokens,
)
from api.routes import live as live_routes
from api.routes.services import Services
from api.sealing import seals_of
from api.sessions import Sessions
from api.settings import Settings
from api.store import keys
from api.submitting import Submitting
from api.tokens import Tokens
from api.watched import Watched
from api.writing import Writer
from schema.release import version

T = TypeVar("T")

_START_AGAIN_S = 0.25
_ROUTES = (
    health, tasks, queue, explain, logs, live_routes, agents, groups, group_changes, compat, tokens,
    audit,
)  # fmt: skip
_GC_OBJECTS = 20_000  # made and not freed, between two looks for circles of garbage
_log = logging.getLogger(__name__)


def create_app(settings: Settings | None = None) -> Front:
    """The application of one worker; Granian calls it in each process without arguments."""
    known = settings or Settings.from_env()
    logging.basicConfig(
        stream=sys.stderr,
        level=known.log_level.upper(),
        format="%(levelname).1s %(name)s: %(message)s",
    )

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncGenerator[None, None]:
        async with running(known) as services:
            app.state["services"] = services
            front.gate = Gate(services.tokens, services.lease_key)
            yield

    app = Litestar(
        [handler for each in _ROUTES for handler in each.HANDLERS] + routers(),
        template_config=templates(),
        lifespan=[lifespan],
        guards=[guard],
        exception_handlers={**HANDLERS, **UNKNOWN},
        request_max_body_size=None,  # api.bodies reads bodies, and names the limit
        openapi_config=OpenAPIConfig(
            title="distributed-worker",
            version=version(),
            description="Submit shell tasks; agents run them and send back results and logs. "
            "Errors are `application/problem+json` (RFC 9457).",
            openapi_router=Router("/schema", route_handlers=[], opt=READ, include_in_schema=False),
            components=Components(
                security_schemes={
                    "token": SecurityScheme(type="http", scheme="bearer"),
                    "login": SecurityScheme(
                        type="apiKey", security_scheme_in="cookie", name=cookies.NAME
                    ),
                }
            ),
            security=[{"token": []}, {"login": []}],
            use_handler_docstrings=True,
            # Others are pages that load scripts of strangers into a browser that may be logged in.
            render_plugins=[JsonRenderPlugin()],
        ),
        logging_config=None,
    )
    described.complete(app)
    front = Front(
        app,
        [compat.pull, agents.claim, agents.report, agents.beat, tasks.submit],
        room=Room(known.max_bodies_bytes, known.max_body_bytes),
        most_requests=known.max_requests,
    )
    return front


@asynccontextmanager
async def running(settings: Settings) -> AsyncGenerator[Services, None]:
    """All services of a process and their loops, over an open database."""
    if settings.database_url is None:
        raise RuntimeError("DATABASE_URL is not set: start the server with `python -m api`")
    async with Database(settings.database_url, settings.pool_size) as database:
        found = await _services(settings, database)
        reaper = Reaper(database, found.notices, settings, found.writer.refresh_days)
        await _patiently(reaper.prepare)
        _connect(found)
        async with asyncio.TaskGroup() as group:
            loops = [
                group.create_task(_for_ever(name, run))
                for name, run in {**_loops(found), "reaper": reaper.run}.items()
            ]
            # What is there now stays: the collector took 4 % of a busy worker looking at it again.
            gc.freeze()
            gc.set_threshold(_GC_OBJECTS)
            try:
                yield found
            finally:
                for each in loops:
                    each.cancel()


async def _services(settings: Settings, database: Database) -> Services:
    seals = seals_of(settings)
    lease_key = await _patiently(lambda: _lease_key(database))
    notices = Notices(database.connect, Watched(asyncio.get_running_loop().time))
    lanes = Lanes(database, settings.max_lanes)
    await _patiently(lanes.refresh)
    tokens = Tokens(database, notices, settings.tokens, loopback=settings.loopback)
    await _patiently(tokens.refresh)
    claims = Claims(database, lanes, notices)
    writer = Writer(
        database, notices, crash_limit=settings.crash_limit, queue_bytes=settings.max_queue_bytes
    )
    delivery = Delivery(database, writer, seals, lease_key)
    cut_marks = CutMarks(settings.pulled_silence_s)
    live = Live(database, notices)
    large, small = limits_of(settings)
    return Services(
        settings=settings,
        database=database,
        tokens=tokens,
        lanes=lanes,
        notices=notices,
        sessions=Sessions(
            database,
            settings.lease_s,
            delivery.prepare,
            notices.watched,
            max_log_bytes=settings.max_log_bytes,
        ),
        claims=claims,
        submitting=Submitting(
            database, lanes, notices, claims, seals, a_minute=settings.submissions_per_minute
        ),
        writer=writer,
        reports=Reports(
            writer,
            lease_key,
            cut_marks,
            max_log_bytes=settings.max_log_bytes,
            inflate_s=settings.inflate_s,
        ),
        pulled=PulledAttempts(database),
        audience=Audience(settings.max_viewers, settings.max_viewers_per_token),
        live=live,
        groups=Groups(live, settings.max_header_bytes),
        pulled_logs=PulledLogs(database, settings.max_log_bytes),
        cut_marks=cut_marks,
        seals=seals,
        delivery=delivery,
        lease_key=lease_key,
        large=large,
        small=small,
    )


def _connect(found: Services) -> None:
    """Let each hear what it must know of the others, of other processes, and of the end."""
    notices, claims, sessions = found.notices, found.claims, found.sessions

    def revoke(name: str) -> None:
        claims.end(sessions.revoke(name))
        found.audience.revoke(name)

    def look_again() -> None:
        claims.wake_all()
        sessions.wake_all()
        found.tokens.changed_elsewhere()
        found.live.look_again()

    def stop_waiting() -> None:
        claims.stop()
        sessions.stop()
        found.audience.stop()

    notices.on_queued = claims.wake
    notices.on_sessions = sessions.wake
    notices.on_moved = found.live.moved
    notices.on_asked = found.live.announce_again
    notices.on_tokens = found.tokens.changed_elsewhere
    notices.on_reconnect = look_again
    found.tokens.on_revoked = revoke
    if "DW_MAIN_PID" in os.environ:  # a worker of `python -m api`, which sends it before SIGTERM
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, stop_waiting)


def _loops(found: Services) -> dict[str, Callable[[], Awaitable[None]]]:
    depths: dict[str, Callable[[], int]] = {
        "claims": lambda: found.claims.waiting,
        "reports": lambda: found.writer.waiting,
        "sessions": lambda: found.sessions.waiting,
        "pulled attempts": lambda: found.pulled.waiting,
        "viewers": lambda: found.audience.count,
    }
    return {
        "notices": found.notices.run,
        "tokens": found.tokens.run,
        "sessions": found.sessions.run,
        "claims": found.claims.run,
        "writer": found.writer.run,
        "pulled": found.pulled.run,
        "live": found.live.run,
        "groups": found.groups.run,
        "depths": lambda: watch_depths(depths),
    }


async def _lease_key(database: Database) -> bytes:
    async with database.acquire() as connection:
        return await keys.lease_key(connection)


async def _patiently(start: Callable[[], Awaitable[T]]) -> T:
    """Wait for the database: a worker that starts anew in an outage must not end of it."""
    while True:
        try:
            return await start()
        except AWAY as error:
            _log.warning("waiting for the database: %r", error)
        await asyncio.sleep(_START_AGAIN_S)


async def _for_ever(name: str, run: Callable[[], Awaitable[None]]) -> None:
    """A worker with a dead loop would take requests and never answer: better none than that.

    Nothing acknowledged is lost, and Granian starts another worker.
    """
    try:
        await run()
    except asyncio.CancelledError:
        raise
    except Exception:  # noqa: BLE001 - whatever it was
        _log.critical("the %s loop failed; this worker exits", name, exc_info=True)
        os._exit(70)
