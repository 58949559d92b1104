"""The event loop of our clients."""

import asyncio
from collections.abc import Iterator

import pytest
import uvloop


@pytest.fixture(scope="module")
def module_runner() -> Iterator[asyncio.Runner]:
    """Make an event loop that lasts for a whole comparison."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as one:
        yield one
