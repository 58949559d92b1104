"""Puts one worker process together."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

from litestar import Litestar
from litestar.openapi import OpenAPIConfig

from api.auth import TokenMiddleware
from api.claims import Claims
from api.database import Database
from api.lanes import Lanes
from api.notices import Notices
from api.problems import HANDLERS
from api.reaper import Reaper
from api.reports import Reports
from api.routes import agents, compat, groups, home, logs, tasks
from api.routes.described import components
from api.routes.services import Services
from api.sessions import Sessions
from api.settings import Settings
from api.store import keys

_log = logging.getLogger(__name__)


def create_app(settings: Settings | None = None) -> Litestar:
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
            yield

    return Litestar(
        [
            handler
            for each in (home, tasks, logs, agents, groups, compat)
            for handler in each.HANDLERS
        ],
        lifespan=[lifespan],
        middleware=[TokenMiddleware(known.token)] if known.token else [],
        exception_handlers=HANDLERS,
        request_max_body_size=known.max_body_bytes,
        openapi_config=OpenAPIConfig(
            title="distributed-worker",
            version="0.1.0",
            description="Hand over shell tasks; agents run them and send back results and logs. "
            "Errors are `application/problem+json` (RFC 9457).",
            path="/schema",
            components=components(),
            use_handler_docstrings=True,
            render_plugins=[],
        ),
        logging_config=None,
    )


@asynccontextmanager
async def running(settings: Settings) -> AsyncGenerator[Services, None]:
    """All services of a process and their loops, over an open database."""
    if settings.database_url is None:
        raise RuntimeError("DATABASE_URL is not set: start the server with `python -m api`")
    async with Database(settings.database_url, settings.pool_size) as database:
        async with database.acquire() as connection:
            lease_key = await keys.lease_key(connection)
        notices = Notices(database.connect)
        lanes = Lanes(database, settings.max_lanes)
        await lanes.refresh()
        sessions = Sessions(database, settings.lease_s, lease_key)
        claims = Claims(database, lanes, notices)
        reports = Reports(
            database, notices, lease_key, crash_limit=settings.crash_limit,
            queue_bytes=settings.max_queue_bytes,
        )  # fmt: skip
        reaper = Reaper(database, notices, settings, reports.refresh_days)
        await reaper.prepare()
        notices.on_queued = claims.wake
        notices.on_sessions = sessions.wake

        def look_again() -> None:
            claims.wake_all()
            sessions.wake_all()

        def stop_parking() -> None:
            claims.stop()
            sessions.stop()

        notices.on_reconnect = look_again
        loop = asyncio.get_running_loop()
        if (
            "DW_MAIN_PID" in os.environ
        ):  # a worker of `python -m api`, which sends it before SIGTERM
            loop.add_signal_handler(signal.SIGUSR1, stop_parking)
        async with asyncio.TaskGroup() as group:
            loops = [
                group.create_task(_for_ever(name, run))
                for name, run in {
                    "notices": notices.run,
                    "sessions": sessions.run,
                    "claims": claims.run,
                    "reports": reports.writer.run,
                    "reaper": reaper.run,
                }.items()
            ]
            try:
                yield Services(
                    settings, database, lanes, notices, sessions, claims, reports, lease_key
                )
            finally:
                for each in loops:
                    each.cancel()


async def _for_ever(name: str, run: Callable[[], Awaitable[None]]) -> None:
    """A worker with a dead loop would take requests and never answer: better none than that.

    Nothing acknowledged is lost, and Granian starts another worker.
    """
    try:
        await run()
    except asyncio.CancelledError:
        raise
    except Exception:  # noqa: BLE001 - whatever it was
        _log.critical("the %s loop failed; this worker ends", name, exc_info=True)
        os._exit(70)
