"""Servers over one fresh database, quick ones in this process and a real one with its workers."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from api.settings import Settings
from tests.api.server import Api, serving
from tests.conftest import _database, _new_folder

StartApi = Callable[..., AbstractAsyncContextManager[Api]]


@pytest.fixture
def start_api(database_url: str, short_folder: Path) -> StartApi:
    """Give tests a way to start servers over their database: `start_api(lease_s=1)`."""

    def start(**settings: Any) -> AbstractAsyncContextManager[Api]:
        chosen: dict[str, Any] = {"database_url": database_url, "pool_size": 4} | settings
        return serving(short_folder, Settings(**chosen))

    return start


@pytest.fixture(scope="session")
async def api(cluster: str, template: str) -> AsyncIterator[Api]:
    """Start one server for all tests that can share it: each uses labels and groups of its own."""
    with _new_folder("dw-api-") as folder:
        async with (
            _database(cluster, template) as url,
            serving(folder, Settings(database_url=url, pool_size=4)) as one,
        ):
            yield one


@pytest.fixture
async def own_api(start_api: StartApi) -> AsyncIterator[Api]:
    """Start a server over a database that no other test sees."""
    async with start_api() as one:
        yield one


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """Connect to the database of the test's own servers."""
    connection = await asyncpg.connect(database_url)
    try:
        yield connection
    finally:
        await connection.close()
