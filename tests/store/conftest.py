"""Connections to one fresh database, where commits matter."""

from collections.abc import AsyncIterator

import asyncpg
import pytest


@pytest.fixture
async def pair(database_url: str) -> AsyncIterator[tuple[asyncpg.Connection, asyncpg.Connection]]:
    """Open two connections to a database of this test."""
    one, other = await asyncpg.connect(database_url), await asyncpg.connect(database_url)
    try:
        yield one, other
    finally:
        one.terminate()
        other.terminate()
