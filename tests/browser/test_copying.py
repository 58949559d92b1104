"""Selecting and copying more of a log than is in the page."""

from playwright.async_api import Browser, Page, expect

from tests.api.server import Api, chunk, exited, total
from tests.browser.seeing import until_line, until_rows

_COPIED = "navigator.clipboard.readText()"


async def _numbered(api: Api, lines: int) -> int:
    """A log whose lines say their numbers."""
    session, task = await api.started()
    out = b"".join(b"\x1b[32mline\x1b[0m %d\n" % n for n in range(1, lines + 1))
    result = exited(task.lease, stdout=total(out), stderr=total(b""))
    assert await api.report(session, [chunk(task.lease, out, at=0)], [result]) == ["ok", "ok"]
    return task.id


async def _select(page: Page, first: int, last: int) -> None:
    """Click before the text of one line, go to another, and click there with Shift."""
    for line, keys in ((first, []), (last, ["Shift"])):
        await page.evaluate("line => { location.hash = `#L${line}`; }", line)
        text = page.locator(f".row:has(.n[data-n='{line}']) .x")
        await expect(text).to_be_in_viewport()
        box = await text.bounding_box()
        assert box is not None
        for key in keys:
            await page.keyboard.down(key)
        await page.mouse.click(box["x"] + (250 if keys else 1), box["y"] + 9)
        for key in keys:
            await page.keyboard.up(key)


async def test_a_selection_reaches_over_lines_that_left_the_page(api: Api, page: Page) -> None:
    """From wherever it began, in both directions; all lines between are copied, each once."""
    number = await _numbered(api, 3000)
    await page.goto(f"{api.url}/console/tasks/{number}?attempt=1#L100")
    await until_rows(page, lambda seen: any(row["line"] == 100 for row in seen))
    await _select(page, 100, 400)
    await page.keyboard.press("Control+c")
    wanted = [f"line {n}" for n in range(100, 401)]
    assert (await page.evaluate(_COPIED)).splitlines() == wanted
    await _select(page, 2500, 2300)
    await page.keyboard.press("Control+c")
    # From behind the text of 2300 to before that of 2500.
    wanted = ["", *(f"line {n}" for n in range(2301, 2500)), ""]
    assert (await page.evaluate(_COPIED)).split("\n") == wanted


async def test_lines_that_are_not_here_are_fetched_to_be_copied(api: Api, page: Page) -> None:
    """A jump from one end to the other has loaded none of those between."""
    number = await _numbered(api, 6000)
    await page.goto(f"{api.url}/console/tasks/{number}?attempt=1#L10")
    await until_rows(page, lambda seen: any(row["line"] == 10 for row in seen))
    await _select(page, 10, 5990)
    await page.keyboard.press("Control+c")
    await expect(page.locator(".toast")).to_have_text("5,979 lines are copied.")
    assert (await page.evaluate(_COPIED)).splitlines() == [f"line {n}" for n in range(10, 5991)]


async def test_select_all_means_the_log_and_all_of_it(api: Api, page: Page) -> None:
    """Where the log has the focus, it is not the head of the page, nor what is seen of the log."""
    number = await _numbered(api, 2000)
    await page.goto(f"{api.url}/console/tasks/{number}")
    await until_line(page, 2000, 2000, -1)
    await page.locator(".lines").focus()
    await page.keyboard.press("Control+a")
    await page.keyboard.press("Home")
    await until_line(page, 1, 1, 0)
    await page.keyboard.press("Control+c")
    await expect(page.locator(".toast")).to_have_text("2,000 lines are copied.")
    assert (await page.evaluate(_COPIED)).splitlines() == [f"line {n}" for n in range(1, 2001)]


async def test_what_is_too_much_to_copy_says_so(api: Api, browser: Browser) -> None:
    """And nothing is copied: a part that looks like all of it would be worse."""
    number = await _numbered(api, 30_000)
    context = await browser.new_context()
    await context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = await context.new_page()
    await page.goto(f"{api.url}/console/tasks/{number}")
    await until_line(page, 30_000, 30_000, -1)
    await page.evaluate("navigator.clipboard.writeText('before')")
    await page.locator(".lines").focus()
    await page.keyboard.press("Control+a")
    await page.keyboard.press("Control+c")
    await expect(page.locator(".toast")).to_contain_text("More than 20,000 lines are not copied")
    assert await page.evaluate(_COPIED) == "before"
    await context.close()
