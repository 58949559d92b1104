"""Servers over one fresh database, quick ones in this process and a real one with its workers."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from api.settings import Settings
from tests.api.server import Api, serving

StartApi = Callable[..., AbstractAsyncContextManager[Api]]


@pytest.fixture
def start_api(database_url: str, short_folder: Path) -> StartApi:
    """Give tests a way to start servers over their database: `start_api(lease_s=1)`."""

    def start(**settings: Any) -> AbstractAsyncContextManager[Api]:
        chosen: dict[str, Any] = {"database_url": database_url, "pool_size": 4} | settings
        return serving(short_folder, Settings(**chosen))

    return start


@pytest.fixture
async def api(start_api: StartApi) -> AsyncIterator[Api]:
    """Start one server with the settings that it comes with."""
    async with start_api() as one:
        yield one


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """Connect to the database of the test's servers."""
    connection = await asyncpg.connect(database_url)
    try:
        yield connection
    finally:
        await connection.close()
