"""A browser, and servers that it can reach: real ones, on a port."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
from playwright.async_api import Browser, Page, async_playwright

from benchmarks import server as servers
from benchmarks.server import BenchServer
from tests.api.server import Api
from tests.api.test_real_server import Running, started
from tests.conftest import _database
from tests.system.test_whole import _agent

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")

TOKENS = {
    "TOKEN": "a secret of an admin",
    "READ_TOKEN": "a secret to read with",
    "SUBMIT_TOKEN": "a secret to submit with",
}


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Start the system's Chromium; the one that playwright would download is not used."""
    path = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if path is None:
        pytest.skip("there is no chromium here: apt-get install chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        await browser.close()


@pytest.fixture(scope="session")
def server() -> Iterator[BenchServer]:
    """Start a server without tokens, and an agent that sends only what is asked for."""
    with (
        servers.start() as running,
        _agent(running, 4, FLUSH_S="3600", LABELS="farm", DRAIN_S="0.1", KILL_GRACE_S="1"),
    ):
        yield running


@pytest.fixture
async def api(server: BenchServer) -> AsyncIterator[Api]:
    """Speak to that server as a program."""
    async with aiohttp.ClientSession() as http:
        yield Api(http, f"http://127.0.0.1:{server.port}")


@pytest.fixture(scope="session")
async def guarded(cluster: str, template: str) -> AsyncIterator[Running]:
    """Start a server that asks for tokens."""
    with tempfile.TemporaryDirectory() as folder:
        async with (
            _database(cluster, template) as url,
            started(url, Path(folder), None, **TOKENS) as one,
        ):
            yield one


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    """Open a window; AssertionError for whatever a script or the policy complains of."""
    context = await browser.new_context(viewport={"width": 1200, "height": 800})
    await context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = await context.new_page()
    page.set_default_timeout(15_000)
    wrong: list[str] = []
    page.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}"))
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    page.on(
        "console",
        lambda said: (
            wrong.append(f"{said.type}: {said.text}")
            if said.type in {"error", "warning"} and "401" not in said.text
            else None
        ),
    )
    yield page
    await context.close()
    assert wrong == []
