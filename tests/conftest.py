"""A real PostgreSQL for the tests: one cluster a run, one migrated template, cheap copies of it.

TEST_DATABASE_URL, where set, names a server to use instead; tests touch only what they made.
"""

import itertools
import os
import shutil
import tempfile
import urllib.parse
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import asyncpg
import pytest
from hypothesis import HealthCheck, settings

from api.migrate import migrate
from api.pgfolder import FolderLock
from api.postgres import EmbeddedPostgres, PostgresStartError

_numbers = itertools.count(1)

# The processes of pytest-xdist have them; a program in a pipe is cut to no width.
for _name_of_size in ("COLUMNS", "LINES"):
    os.environ.pop(_name_of_size, None)

# No test fails for a slow machine. HYPOTHESIS_PROFILE=deep searches for minutes, wherever a test
# leaves the number to the profile.
_patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("patient", _patient)
settings.register_profile(
    "deep", _patient, max_examples=2000, stateful_step_count=100, print_blob=True
)
settings.load_profile("patient")
if profile := os.environ.get("HYPOTHESIS_PROFILE"):
    settings.load_profile(profile)


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """Start a PostgreSQL for the run; the URL of its database `postgres`."""
    if url := os.environ.get("TEST_DATABASE_URL"):
        yield url
        return
    _remove_abandoned()
    with _new_folder("dw-cluster-") as folder:
        postgres = EmbeddedPostgres(folder / "data", durable=False)
        yield postgres.start()
        postgres.stop()


@pytest.fixture(scope="session")
async def template(cluster: str) -> AsyncIterator[str]:
    """Make a migrated database to copy; its name. Nobody may stay connected to it."""
    async with _database(cluster, "template1") as url:
        connection = await asyncpg.connect(url)
        try:
            await migrate(connection)
        finally:
            await connection.close()
        yield _name(url)


@pytest.fixture
async def database_url(cluster: str, template: str) -> AsyncIterator[str]:
    """Copy the template for one test, where commits matter; dropped with whoever is connected."""
    async with _database(cluster, template) as url:
        yield url


@pytest.fixture(scope="session")
async def shared_database_url(cluster: str, template: str) -> AsyncIterator[str]:
    """Copy the template for all tests that roll back."""
    async with _database(cluster, template) as url:
        yield url


@pytest.fixture
async def connection(shared_database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """Connect in a transaction that is rolled back after the test."""
    connection = await asyncpg.connect(shared_database_url)
    try:
        transaction = connection.transaction()
        await transaction.start()
        yield connection
        if not connection.is_closed():
            await transaction.rollback()
    finally:
        await connection.close()


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """Make a folder for one test whose path is short, as a unix socket's has to be."""
    with _new_folder("dw-test-") as folder:
        yield folder


@contextmanager
def _new_folder(prefix: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(
        prefix=prefix, dir=_place(), ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder).resolve()


def _place() -> Path:
    """In memory, if there is room: a copy of a database takes 12 ms there, and 240 on a disk."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 4 * 1024**3
    return memory if roomy and os.access(memory, os.W_OK) else Path(tempfile.gettempdir())


def _remove_abandoned() -> None:
    """Remove the clusters of runs that were killed: those that nobody holds."""
    for left in _place().glob("dw-cluster-*"):
        with suppress(OSError, PostgresStartError):
            FolderLock(left / "data").release()
            shutil.rmtree(left)


@asynccontextmanager
async def _database(cluster: str, template: str) -> AsyncIterator[str]:
    """Make a database out of another one, and drop it in the end."""
    name = f"dw_test_{os.getpid()}_{next(_numbers)}"
    await _execute(cluster, f'CREATE DATABASE {name} TEMPLATE "{template}" STRATEGY FILE_COPY')
    try:
        yield urllib.parse.urlsplit(cluster)._replace(path=f"/{name}").geturl()
    finally:
        await _execute(cluster, f"DROP DATABASE {name} WITH (FORCE)")


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _name(url: str) -> str:
    return urllib.parse.urlsplit(url).path.removeprefix("/")
