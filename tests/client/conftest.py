"""A fake server for each test, and a client of it."""

from collections.abc import AsyncIterator

import pytest

from client.client import Client
from client.transport import Patience
from tests.client.fake import Fake, serve


@pytest.fixture
async def fake() -> AsyncIterator[Fake]:
    """Start a server that knows nothing yet."""
    async with serve() as one:
        yield one


@pytest.fixture
async def dw(fake: Fake) -> AsyncIterator[Client]:
    """Make a client of the fake."""
    async with Client(fake.url, patience=Patience(2, 2)) as one:
        yield one
