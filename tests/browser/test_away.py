"""A server that goes away under an open page, and comes back."""

from pathlib import Path

import aiohttp
from playwright.async_api import Browser, Page, Route, expect

from tests.api.server import Api, chunk, exited, total
from tests.api.test_real_server import started
from tests.browser.seeing import texts, until_rows, until_texts
from tests.conftest import _database


async def test_pages_say_that_the_server_is_away_and_go_on_when_it_is_back(
    browser: Browser, cluster: str, template: str, tmp_path: Path
) -> None:
    """Or somebody waits for hours before a list that stands still, and a log that seems silent."""
    context = await browser.new_context()
    listing, log = await context.new_page(), await context.new_page()
    async with _database(cluster, template) as url:
        async with started(url, tmp_path) as server:
            session, task = await server.api.started(name="goes on")
            sent = [chunk(task.lease, b"one\n", at=0)]
            assert await server.api.report(session, sent) == ["ok"]
            await listing.goto(f"{server.api.url}/console/tasks")
            await log.goto(f"{server.api.url}/console/tasks/{task.id}")
            await until_texts(log, ["one"])
            for each in (listing, log):
                await expect(each.locator(".lost")).to_be_hidden()
        for each in (listing, log):
            await expect(each.locator(".lost")).to_be_visible(timeout=20_000)
        async with (
            started(url, tmp_path, PORT=str(server.port)),
            aiohttp.ClientSession() as http,
        ):
            api = Api(http, server.api.url)
            for each in (listing, log):
                await expect(each.locator(".lost")).to_be_hidden(timeout=20_000)
            sent = [chunk(task.lease, b"two\n", offset=4, at=9)]
            assert await api.report(session, sent) == ["ok"]
            await until_texts(log, ["one", "two"])
            number = await api.submit(name="new")
            await expect(listing.locator("#tasks")).to_contain_text(f"#{number} new")
            await context.close()


async def _logged(api: Api, *, out: bytes = b"", err: bytes = b"") -> int:
    session, task = await api.started()
    sent = [chunk(task.lease, out, at=0), chunk(task.lease, err, stream="stderr", at=1)]
    result = exited(task.lease, stdout=total(out), stderr=total(err))
    assert await api.report(session, sent, [result]) == ["ok", "ok", "ok"]
    return task.id


async def test_a_log_that_could_not_be_read_is_read_again(api: Api, browser: Browser) -> None:
    """A proxy answers for a server that is being restarted, with a page of its own."""
    number = await _logged(api, out=b"here\n", err=b"!\n")
    page = await browser.new_page()
    refused: list[str] = []

    async def refuse(route: Route) -> None:
        refused.append(route.request.url)
        await route.fulfill(status=502, body="<h1>Bad Gateway</h1>", content_type="text/html")

    await page.route("**/rows?*", refuse, times=1)
    await page.goto(f"{api.url}/console/tasks/{number}")
    await expect(page.locator(".note")).to_contain_text("The server answers 502.")
    await until_texts(page, ["here", "!"])
    await expect(page.locator(".note")).to_be_hidden()
    assert len(refused) == 1
    await page.close()


async def test_lines_of_a_stream_that_is_left_do_not_come_into_another(
    api: Api, page: Page
) -> None:
    """Answers overtake one another; line 1 of stderr is not line 1 of stdout."""
    number = await _logged(api, out=b"out 1\nout 2\nout 3\n", err=b"err 1\n")
    await page.goto(f"{api.url}/console/tasks/{number}")
    await until_rows(page, lambda seen: len(seen) == 4)
    held: list[Route] = []

    async def hold(route: Route) -> None:
        held.append(route)

    await page.route("**/rows?*stream=stderr*", hold)
    async with page.expect_request("**/rows?*stream=stderr*"):
        await page.locator(".streams").select_option("stderr")
    await page.locator(".streams").select_option("stdout")
    await until_texts(page, ["out 1", "out 2", "out 3"])
    async with page.expect_response("**/rows?*stream=stderr*"):
        await held[0].continue_()
    await page.locator(".times").select_option("elapsed")  # draws all rows anew
    await expect(page.locator(".row .t").first).to_have_attribute("data-t", "0:00.000")
    assert await texts(page) == ["out 1", "out 2", "out 3"]
