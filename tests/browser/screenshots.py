"""Pictures of each page for the documents: `just screenshots`.

A real system runs a believable workload (see `workload`), and a browser looks at it: in light, in
dark, and on a phone.
"""

import asyncio
import shutil
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import aiohttp
import msgspec
from playwright.async_api import Browser, Page, async_playwright

from benchmarks import server as servers
from benchmarks.server import BenchServer
from schema.tasks import TaskPage
from tests.api.server import Api, eventually
from tests.api.test_real_server import started
from tests.browser import workload
from tests.browser.conftest import TOKENS
from tests.browser.pictures import squeezed
from tests.system.test_whole import _agent

_LOOKS: dict[str, tuple[Literal["light", "dark"], int, int]] = {
    "light": ("light", 1200, 780),
    "dark": ("dark", 1200, 780),
    "phone": ("light", 390, 844),
}
_SHOWN = """() => document.querySelector('.row:not(.coming)')
    || /no output|waiting/.test(document.querySelector('.count').textContent)"""
_MOST_BYTES = 1_500_000


async def main(folder: Path) -> int:
    """Write them all; tell how large they are."""
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.stderr.write("screenshots: there is no chromium: apt-get install chromium\n")
        return 1
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        server = stack.enter_context(servers.start())
        for name, (slots, labels) in workload.AGENTS.items():
            stack.enter_context(
                _agent(
                    server, slots, AGENT_NAME=name, LABELS=labels, KILL_GRACE_S="1", DRAIN_S="0.1"
                )
            )
        async with async_playwright() as playwright, aiohttp.ClientSession() as http:
            browser = await playwright.chromium.launch(
                executable_path=chromium, args=["--no-sandbox"]
            )
            await _shoot(browser, Api(http, f"http://127.0.0.1:{server.port}"), server, folder)
            await browser.close()
    sizes = {file.name: file.stat().st_size for file in sorted(folder.glob("*.png"))}
    for name, size in sizes.items():
        sys.stdout.write(f"{size / 1000:7.0f} kB  {name}\n")
    sys.stdout.write(f"{sum(sizes.values()) / 1000:7.0f} kB  together\n")
    return int(sum(sizes.values()) > _MOST_BYTES)


async def _shoot(browser: Browser, api: Api, server: BenchServer, folder: Path) -> None:
    tasks = [msgspec.to_builtins(task) for task in workload.tasks()]
    await workload.fill_history(server.dsn())
    await api.post("/tasks", tasks)
    failed = await _one(
        api, name="render/shadow-atlas [pixel-9]", group=workload.NIGHTLY, status="failed"
    )
    live = await _one(api, name="memory/open-world-loop [pixel-9]", status="in_progress")
    waits = await _one(api, name="record trailer in 4K", status="pending")
    await eventually(
        lambda: api.call("GET", f"/tasks/{live}/logs/lines?tail=true&lines=1"),
        lambda reply: b'"total":0' not in reply.body, 60,
    )  # fmt: skip
    places = {
        "overview": "/",
        "tasks": "/console/tasks",
        "task": f"/console/tasks/{failed}",
        "task-live": f"/console/tasks/{live}",
        "task-waiting": f"/console/tasks/{waits}",
        "groups": "/console/groups",
        "group": f"/console/group?name={workload.NIGHTLY}",
        "agents": "/console/agents",
    }
    with tempfile.TemporaryDirectory() as data:
        empty = await browser.new_page()
        async with started(server.dsn(), Path(data), None, **TOKENS) as guarded:
            for look, (scheme, width, height) in _LOOKS.items():
                context = await browser.new_context(
                    color_scheme=scheme, viewport={"width": width, "height": height}
                )
                page = await context.new_page()
                for name, place in places.items():
                    await _picture(page, empty, f"{api.url}{place}", folder / f"{name}-{look}.png")
                await _picture(
                    page, empty, f"{guarded.api.url}/login", folder / f"login-{look}.png"
                )
                await context.close()


async def _one(api: Api, **query: str) -> int:
    """The newest task like that, as soon as there is one."""

    async def look() -> TaskPage:
        return (await api.call("GET", "/tasks", params=query)).as_(TaskPage)

    page = await eventually(look, lambda found: bool(found.tasks), 60)
    return page.tasks[0].id


async def _picture(page: Page, empty: Page, url: str, file: Path) -> None:
    await page.goto(url)
    if "/console/tasks/" in url:
        await page.wait_for_function(_SHOWN)
    # What counts seconds is drawn once more, and nothing blinks.
    await page.evaluate("() => new Promise(requestAnimationFrame)")
    picture = await page.screenshot(animations="disabled")
    file.write_bytes(await squeezed(picture, empty))


if __name__ == "__main__":
    sys.exit(asyncio.run(main(Path(sys.argv[1]))))
