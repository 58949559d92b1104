"""`python -m api`: settings, database, migrations, then Granian's workers, all on one port."""

import argparse
import asyncio
import ctypes
import logging
import multiprocessing
import os
import resource
import shutil
import signal
import ssl
import sys
import threading
import time
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
from granian.constants import HTTPModes, Interfaces, Loops, SSLProtocols
from granian.http import HTTP1Settings
from granian.log import LogLevels

from api import listening
from api.listening import StartError
from api.migrate import MigrationError, migrate
from api.postgres import EmbeddedPostgres, PostgresStartError
from api.sealing import seals_of
from api.settings import Settings, SettingsError
from api.store import tokens as token_store
from api.supervising import Server
from schema.release import version

_KILL_TIMEOUT_S = 10
_BACKLOG = 4096
_CONNECTIONS = 20_000  # Granian's backpressure counts connections, idle keep-alive ones too
_BANNER_S = 60.0
_OVERLAP_S = 10.0  # of a worker and the one that replaces it, which may take seconds to start
_PR_SET_PDEATHSIG = 1
_log = logging.getLogger(__name__)


def worker_app() -> Callable[..., Awaitable[None]]:
    """The application of one worker process, which ends when the main process does."""
    main_pid = int(os.environ["DW_MAIN_PID"])
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != main_pid:  # it ended before the line above
        os._exit(1)
    from api.app import create_app  # noqa: PLC0415 - the main process needs none of it

    return create_app()


def main() -> int:
    """Serve until SIGINT or SIGTERM; returns the exit code."""
    parser = argparse.ArgumentParser(
        "api", description="Serve the API. Environment variables set it up: see docs/settings.md."
    )
    parser.add_argument("--version", "-V", action="version", version=f"api {version()}")
    parser.parse_args()
    postgres: EmbeddedPostgres | None = None
    multiprocessing.set_start_method("spawn")  # forked workers would inherit locks of our threads
    try:
        settings = Settings.from_env()
        logging.basicConfig(
            stream=sys.stderr,
            level=settings.log_level.upper(),
            format="%(levelname).1s %(name)s: %(message)s",
        )
        logging.getLogger("_granian").setLevel(logging.WARNING)
        listening.check_port(settings)
        listening.tls_files(settings)
        seals_of(settings)
        data_dir = Path(settings.data_dir).resolve()
        url = settings.database_url
        if url is None:
            connections = settings.workers * (settings.pool_size + 2) + 20
            postgres = EmbeddedPostgres(data_dir, max_connections=connections)
            url = postgres.start()
        guarded = asyncio.run(_prepare(settings, url))
        if warning := listening.warning(settings):
            _log.warning(warning)
        _serve(settings, url, data_dir, guarded=guarded)
    except (SettingsError, PostgresStartError, MigrationError, StartError) as error:
        print(f"cannot start: {error}", file=sys.stderr)
        return 1
    finally:
        if postgres is not None:
            postgres.stop()
    return 0


async def _prepare(settings: Settings, url: str) -> bool:
    """Bring the schema up to date; returns whether tokens are asked for."""
    try:
        connection = await asyncpg.connect(url, timeout=10)
    except (
        OSError,
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
        TimeoutError,
        ValueError,
    ) as error:
        why = str(error) or type(error).__name__
        raise StartError(f"DATABASE_URL cannot be reached: {why}") from None
    try:
        for name in await migrate(connection):
            _log.info("applied %s", name)
        stored = await token_store.changed(connection, None)
        listening.check_tokens(settings, stored=bool(stored))
        return bool(stored or settings.tokens)
    finally:
        await connection.close()


def _serve(settings: Settings, url: str, data_dir: Path, *, guarded: bool) -> None:
    metrics = data_dir / "metrics"
    shutil.rmtree(metrics, ignore_errors=True)
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    metrics.mkdir()
    os.environ.update(
        DATABASE_URL=url, PROMETHEUS_MULTIPROC_DIR=str(metrics), DW_MAIN_PID=str(os.getpid())
    )
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    certificate, key = listening.tls_files(settings) or (None, None)
    server: Any = Server(
        "api.__main__:worker_app",
        factory=True,
        address=settings.host,
        port=settings.port,
        interface=Interfaces.ASGI,
        loop=Loops.uvloop,
        http=HTTPModes.http1,
        websockets=False,
        workers=settings.workers,
        runtime_threads=1,
        http1_settings=HTTP1Settings(
            header_read_timeout=round(settings.header_s * 1000),
            max_buffer_size=settings.max_header_bytes,
        ),
        backlog=_BACKLOG,
        backpressure=_CONNECTIONS,
        respawn_failed_workers=True,
        respawn_interval=_OVERLAP_S,
        workers_kill_timeout=_KILL_TIMEOUT_S,
        log_level=LogLevels.warning,
        log_access=False,
        ssl_cert=certificate,
        ssl_key=key,
        ssl_protocol_min=SSLProtocols.tls12,
    )
    server.settings = settings
    threading.Thread(target=_announce, args=(settings, server, guarded), daemon=True).start()
    server.serve()


def _announce(settings: Settings, server: Any, guarded: bool) -> None:
    """Say one line when the server answers."""
    url = listening.own_url(settings)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # our own port: the certificate is for another name
    deadline = time.monotonic() + _BANNER_S
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(  # noqa: S310 - our own
                f"{url}/health/ready", timeout=2, context=context
            ):
                break
        except OSError:
            time.sleep(0.05)
    else:
        return
    server.answered = True
    where = "the embedded PostgreSQL" if settings.database_url is None else "DATABASE_URL"
    guard = "" if guarded else "; no token required"
    print(f"listening on {url} with {settings.workers} workers over {where}{guard}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
