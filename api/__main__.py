"""`python -m api`: settings, database, migrations, then Granian's workers, all on one port."""

import asyncio
import ctypes
import logging
import multiprocessing
import os
import resource
import shutil
import signal
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import FrameType
from typing import Any

import asyncpg
from granian.constants import HTTPModes, Interfaces, Loops
from granian.log import LogLevels
from granian.server.mp import MPServer

from api.migrate import MigrationError, migrate
from api.postgres import EmbeddedPostgres, PostgresStartError
from api.settings import Settings, SettingsError

_KILL_TIMEOUT_S = 10
_BACKLOG = 4096
_CONNECTIONS = 20_000  # Granian's backpressure counts connections, idle keep-alive ones too
_BANNER_S = 60.0
_PR_SET_PDEATHSIG = 1


class StartError(Exception):
    """The server cannot start; the text is one line for the person who started it."""


class Server(MPServer):
    """Granian, whose workers first answer all parked requests when they shall stop."""

    answered = False
    """Workers that die are started again for ever, once one has shown that they can work."""

    def _respawn_workers(
        self, workers: list[int], target: Any, loader: Any, delay: float = 0
    ) -> None:
        super()._respawn_workers(workers, target, loader, delay)
        if self.answered:
            # Granian ends the server where one worker dies twice within 5.5 s.
            self.respawned_wrks.clear()

    def signal_handler_interrupt(self, signum: int, frame: FrameType | None) -> None:
        """Ask the workers to park nobody, then stop them."""
        for worker in self.wrks:
            if worker.inner.is_alive():
                os.kill(worker.inner.pid, signal.SIGUSR1)
        super().signal_handler_interrupt(signum, frame)  # type: ignore[no-untyped-call]  # untyped


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
        _check_listening(settings)
        data_dir = Path(settings.data_dir).resolve()
        url = settings.database_url
        if url is None:
            connections = settings.workers * (settings.pool_size + 2) + 20
            postgres = EmbeddedPostgres(data_dir, max_connections=connections)
            url = postgres.start()
        asyncio.run(_prepare(url))
        _serve(settings, url, data_dir)
    except (SettingsError, PostgresStartError, MigrationError, StartError) as error:
        print(f"cannot start: {error}", file=sys.stderr)
        return 1
    finally:
        if postgres is not None:
            postgres.stop()
    return 0


def _check_listening(settings: Settings) -> None:
    if not settings.loopback and settings.token is None:
        raise StartError(
            f"HOST={settings.host} lets other machines run commands on every agent: "
            "set TOKEN to a secret of at least 16 characters first, or use HOST=127.0.0.1"
        )
    # The workers share the port, so another server that shares it too would go unnoticed.
    try:
        family, _, _, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM
        )[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise StartError(
            f"cannot listen on HOST={settings.host} PORT={settings.port}: {error.strerror or error}"
        ) from None


async def _prepare(url: str) -> None:
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
            logging.getLogger(__name__).info("applied %s", name)
    finally:
        await connection.close()


def _serve(settings: Settings, url: str, data_dir: Path) -> None:
    metrics = data_dir / "metrics"
    shutil.rmtree(metrics, ignore_errors=True)
    metrics.mkdir(parents=True)
    os.environ.update(
        DATABASE_URL=url, PROMETHEUS_MULTIPROC_DIR=str(metrics), DW_MAIN_PID=str(os.getpid())
    )
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
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
        backlog=_BACKLOG,
        backpressure=_CONNECTIONS,
        respawn_failed_workers=True,
        workers_kill_timeout=_KILL_TIMEOUT_S,
        log_level=LogLevels.warning,
        log_access=False,
    )
    threading.Thread(target=_announce, args=(settings, server), daemon=True).start()
    server.serve()


def _announce(settings: Settings, server: Any) -> None:
    """Say one line when the server answers."""
    host = "127.0.0.1" if settings.host in {"0.0.0.0", ""} else settings.host  # noqa: S104
    url = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
    deadline = time.monotonic() + _BANNER_S
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/health/ready", timeout=2):  # noqa: S310 - our own
                break
        except OSError:
            time.sleep(0.05)
    else:
        return
    server.answered = True
    where = "the embedded PostgreSQL" if settings.database_url is None else "DATABASE_URL"
    guard = "" if settings.token else "; no token is asked for"
    print(f"listening on {url} with {settings.workers} workers over {where}{guard}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
