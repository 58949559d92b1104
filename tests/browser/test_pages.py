"""Pages in a browser: they change by themselves, by keyboard, on a phone, and let people in."""

from pathlib import Path
from urllib.parse import quote

import aiohttp
import pytest
from playwright.async_api import Browser, Page, expect

from schema.tasks import Submitted
from tests.api.server import Api, chunk, exited, total
from tests.api.test_real_server import Running
from tests.browser.conftest import TOKENS

_PAGES = ["/", "/console/tasks", "/console/groups", "/console/agents"]


async def test_a_list_changes_by_itself(api: Api, page: Page) -> None:
    """What is handed over appears; what is cancelled by its button says so."""
    await page.goto(f"{api.url}/console/tasks?name=appears")
    await expect(page.locator("#tasks")).to_contain_text("No tasks match.")
    number = await api.submit(name="appears")
    await expect(page.locator("#tasks")).to_contain_text(f"#{number}")
    await page.get_by_role("button", name=f"Cancel task {number}").click()
    await expect(page.locator("#tasks .status").first).to_contain_text("cancelled")
    await page.get_by_role("button", name=f"Retry task {number}").click()
    await expect(page.locator("#tasks .status").first).to_contain_text("pending")
    assert page.url.endswith("?name=appears")


async def test_what_was_opened_stays_open_when_the_page_changes(api: Api, page: Page) -> None:
    """And keeps the focus: news must not take a button from under a finger."""
    await api.submit(group="stays")
    await page.goto(f"{api.url}/console/group?name=stays")
    await page.locator("#sure-cancel > summary").click()
    await expect(page.locator("#cancel-all")).to_have_text("Cancel 1 task")
    await page.locator("#cancel-all").focus()
    await api.submit(group="stays")
    await expect(page.locator("#cancel-all")).to_have_text("Cancel 2 tasks")
    await expect(page.locator("#cancel-all")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.locator("#head")).to_contain_text("2 cancelled")


async def test_a_group_fails_and_runs_again(api: Api, page: Page) -> None:
    """Its failures stand first; one button has them all run again."""
    for name in ("one", "two"):
        session, task = await api.started(group="fails", name=name)
        await api.report(session, [], [exited(task.lease, 1)])
    await page.goto(f"{api.url}/console/group?name=fails")
    await expect(page.locator("#failed")).to_contain_text("two")
    await expect(page.locator("#head")).to_contain_text("2 failed")
    await page.locator("#sure-retry > summary").click()
    await page.locator("#retry-failed").click()
    await expect(page.locator("#head")).to_contain_text("2 pending")
    await expect(page.locator("#failed")).to_contain_text("None has failed so far.")


async def test_a_button_of_a_group_keeps_the_focus_where_it_was(api: Api, page: Page) -> None:
    """A task is among those that run and the slowest: ids that are there twice lead astray."""
    session, task = await api.started(group="twice")
    await page.goto(f"{api.url}/console/group?name=twice")
    await expect(page.locator("#slowest")).to_contain_text(f"#{task.id}")
    ids = await page.evaluate("[...document.querySelectorAll('[id]')].map(each => each.id)")
    assert len(ids) == len(set(ids))
    await api.report(session, [], [exited(task.lease)])


async def test_fingers_find_buttons(api: Api, browser: Browser) -> None:
    """24 pixels at least (WCAG 2.5.8), on a phone."""
    session, task = await api.started(group="touched")
    context = await browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True)
    page = await context.new_page()
    for place in [*_PAGES, f"/console/tasks/{task.id}", "/console/group?name=touched"]:
        await page.goto(f"{api.url}{place}")
        small = await page.evaluate(
            """() => [...document.querySelectorAll('button, .button, select, summary')]
                .filter(each => each.checkVisibility())
                .map(each => [each.outerHTML, each.getBoundingClientRect().height])
                .filter(([, height]) => height < 24)"""
        )
        assert small == [], place
    await context.close()
    await api.report(session, [], [exited(task.lease)])


async def test_an_agent_is_drained_by_its_button(api: Api, page: Page) -> None:
    """It says so from then on."""
    session = await api.open("drained", agent="to be drained")
    await page.goto(f"{api.url}/console/agents")
    row = page.locator("tr", has_text="to be drained")
    await row.locator("summary").click()
    await row.get_by_role("button", name="Drain it").click()
    await expect(row).to_contain_text("draining")
    assert (await api.beat(session)).drain
    await api.beat(session, closing=True)
    await expect(page.locator("#gone")).to_contain_text("to be drained")


async def test_everything_is_reached_by_keyboard(api: Api, page: Page) -> None:
    """The first tab skips what is on every page; a slash is the search."""
    await page.goto(f"{api.url}/console/tasks")
    await page.keyboard.press("Tab")
    await expect(page.locator(".skip")).to_be_focused()
    await expect(page.locator(".skip")).to_be_in_viewport()
    await page.keyboard.press("Enter")
    await page.keyboard.press("Tab")
    await expect(page.locator("#filters input").first).to_be_focused()
    await page.keyboard.press("Space")
    await page.keyboard.press("/")
    await expect(page.locator("[data-search]")).to_be_focused()
    await page.keyboard.type("a/b")
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(
        f"{api.url}/console/tasks?status=pending&group=a%2Fb&name=&agent="
    )


async def test_each_control_has_a_name(api: Api, page: Page) -> None:
    """For whoever hears pages."""
    session, task = await api.started(group="named")
    for place in [*_PAGES, f"/console/tasks/{task.id}", "/console/group?name=named"]:
        await page.goto(f"{api.url}{place}")
        nameless = await page.evaluate(
            """controls => [...document.querySelectorAll(controls)]
                .filter(each => !(each.innerText?.trim() || each.getAttribute('aria-label')
                    || each.labels?.length || each.title))
                .filter(each => each.checkVisibility())
                .map(each => each.outerHTML)""",
            _CONTROLS,
        )
        assert nameless == [], place
        assert await page.locator("h1").count() == 1
        assert await page.locator("main").count() == 1
    await api.report(session, [], [exited(task.lease)])


@pytest.mark.parametrize("width", [320, 390, 768])
async def test_no_page_is_wider_than_its_screen(api: Api, page: Page, width: int) -> None:
    """On a phone nobody scrolls sideways, whatever things are called."""
    name = "averyveryverylongnamewithoutanyspaceinit/" * 4
    session, task = await api.started(name=name, group=name, command=f"echo {name}")
    await page.set_viewport_size({"width": width, "height": 700})
    for place in [*_PAGES, f"/console/tasks/{task.id}", f"/console/group?name={name}"]:
        await page.goto(f"{api.url}{place}")
        await expect(page.locator("h1")).to_have_count(1)
        wide = await page.evaluate("document.scrollingElement.scrollWidth")
        assert wide <= width, (place, wide)
    await api.report(session, [], [exited(task.lease)])


async def _tried(api: Api, times: int) -> int:
    """A task that failed so many times, with a log whose last line says why."""
    label = f"tried-{times}"
    number = await api.submit(needs=[label], name="flaky")
    session = await api.open(label)
    for attempt in range(times):
        if attempt:
            await api.post(f"/tasks/{number}/retry", {})
        (task,) = await api.claim(session, wait=5)
        out = b"".join(b"line %d\n" % n for n in range(80)) + b"this is why\n"
        result = exited(task.lease, 1, stdout=total(out), stderr=total(b""))
        assert await api.report(session, [chunk(task.lease, out, at=0)], [result]) == ["ok", "ok"]
    return number


@pytest.mark.parametrize(("width", "height"), [(1200, 780), (390, 844)])
@pytest.mark.parametrize("times", [1, 20])
async def test_why_a_task_failed_is_on_the_first_screen(
    api: Api, page: Page, width: int, height: int, times: int
) -> None:
    """The end of its log, however often it was tried; nobody should have to look for it."""
    number = await _tried(api, times)
    await page.set_viewport_size({"width": width, "height": height})
    await page.goto(f"{api.url}/console/tasks/{number}")
    await expect(page.locator("#head")).to_contain_text("exit 1")
    await expect(page.get_by_text("this is why")).to_be_in_viewport()
    if times > 1:
        attempts = page.get_by_role("region", name="Attempts").get_by_role("link")
        assert (await attempts.all_inner_texts())[:2] == ["20", "19"]


async def test_news_leave_what_was_scrolled_where_it_is(api: Api, page: Page) -> None:
    """A command of many lines is read while the page changes."""
    session, task = await api.started(command="\n".join(f"echo {n}" for n in range(500)))
    await page.goto(f"{api.url}/console/tasks/{task.id}")
    await page.get_by_text("Command and details").click()
    command = page.get_by_role("region", name="Command")
    await command.evaluate("box => { box.scrollTop = 3000; }")
    await command.focus()
    await api.report(session, [], [exited(task.lease)])
    await expect(page.locator("#facts")).to_contain_text("Ended")
    assert await command.evaluate("box => box.scrollTop") == 3000
    await expect(command).to_be_focused()


async def test_labels_without_end_leave_room_for_the_rest(api: Api, page: Page) -> None:
    """Of an agent with as many as it may have, one row of the list stays a row."""
    labels = [f"a-long-label-{n}=its-value-{n}" for n in range(60)]
    session = await api.open(*labels, agent="knows a lot")
    number = await api.submit(needs=labels)
    await page.goto(f"{api.url}/console/agents")
    row = page.locator("tr", has_text="knows a lot")
    box = await row.bounding_box()
    assert box is not None
    assert box["height"] < 150
    await expect(row.get_by_text("its-value-59")).to_be_attached()
    await page.goto(f"{api.url}/console/tasks/{number}")
    await page.get_by_text("Command and details").click()
    box = await page.locator(".facts").bounding_box()
    assert box is not None
    assert box["height"] < 200
    await api.beat(session, closing=True)


_CONTRAST = (Path(__file__).parent / "contrast.js").read_text("utf-8")
_CONTROLS = "a, button, input:not([type=hidden]), select, summary"


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_all_text_can_be_read(api: Api, page: Page, scheme: str) -> None:
    """Contrast of 4.5 and more (WCAG AA), in both schemes, also of what terminals colour."""
    await page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    colours = "; ".join(
        f"printf '\\033[{n}mcolour {n}\\033[0m\\n'"
        for n in (*range(30, 38), *range(40, 48), *range(90, 108))
    )
    number = await api.submit(
        command=f"{colours}; echo bad >&2; exit 1", needs=["farm"], group="colours"
    )
    await page.goto(f"{api.url}/console/tasks/{number}")
    await expect(page.locator("#head")).to_contain_text("exit 1")
    for place in [f"/console/tasks/{number}", *_PAGES, "/console/group?name=colours"]:
        await page.goto(f"{api.url}{place}")
        await expect(page.locator("h1")).to_have_count(1)
        assert await page.evaluate(_CONTRAST) == [], place


async def test_a_token_lets_a_browser_in_and_back(guarded: Running, page: Page) -> None:
    """To the page that was asked for; with the buttons of its role; and out again."""
    url = guarded.api.url
    headers = {"Authorization": f"Bearer {TOKENS['TOKEN']}"}
    reply = await guarded.api.call(
        "POST",
        "/tasks",
        json={"command": "x", "needs": ["nobody"], "name": "guarded"},
        headers=headers,
    )
    assert reply.status == 201
    await page.goto(f"{url}/console/tasks?name=guarded")
    await expect(page).to_have_url(f"{url}/login?next=%2Fconsole%2Ftasks%3Fname%3Dguarded")
    await page.get_by_label("Token").fill("wrong")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert").first).to_contain_text("not valid")
    await page.get_by_label("Token").fill(TOKENS["READ_TOKEN"])
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(f"{url}/console/tasks?name=guarded")
    await expect(page.locator("#tasks")).to_contain_text("guarded")
    assert await page.get_by_role("button", name="Cancel").count() == 0
    await page.get_by_role("button", name="Log out").click()
    await expect(page.get_by_label("Token")).to_be_visible()
    await page.get_by_label("Token").fill(TOKENS["SUBMIT_TOKEN"])
    await page.keyboard.press("Enter")
    await expect(page.locator("#numbers")).to_be_visible()
    await page.goto(f"{url}/console/tasks?name=guarded")
    await page.get_by_role("button", name="Cancel").click()
    await expect(page.locator("#tasks .status").first).to_contain_text("cancelled")


async def test_a_link_from_another_site_finds_who_is_logged_in(
    guarded: Running, page: Page, api: Api
) -> None:
    """Links stand in chats and mails, and browsers keep the cookie back on the way from there."""
    url = guarded.api.url
    await page.goto(f"{url}/login")
    await page.get_by_label("Token").fill(TOKENS["READ_TOKEN"])
    await page.keyboard.press("Enter")
    await expect(page.locator("#numbers")).to_be_visible()
    # Another host's page, as a browser sees it: the same address by another name.
    elsewhere = api.url.replace("127.0.0.1", "localhost")
    await page.goto(f"{elsewhere}/console/tasks")
    await page.evaluate("url => { location.href = url; }", f"{url}/console/agents")
    await expect(page).to_have_url(f"{url}/console/agents")
    await expect(page.locator("h1")).to_have_text("Agents")


async def test_a_link_to_a_line_leads_there_after_the_login(
    guarded: Running, page: Page, api: Api
) -> None:
    """By the form, and where the browser kept the cookie back: what is behind a # stays with it."""
    url = guarded.api.url
    headers = {"Authorization": f"Bearer {TOKENS['TOKEN']}"}
    body = {"command": "x", "needs": ["nobody"]}
    reply = await guarded.api.call("POST", "/tasks", json=body, headers=headers)
    place = f"{url}/console/tasks/{reply.as_(Submitted).id}#L12"
    await page.goto(place)
    await page.get_by_label("Token").fill(TOKENS["READ_TOKEN"])
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(place)
    await page.goto(f"{api.url.replace('127.0.0.1', 'localhost')}/console/tasks")
    await page.evaluate("url => { location.href = url; }", place)
    await expect(page).to_have_url(place)
    await expect(page.locator("h1")).to_contain_text("x")


async def test_a_log_leads_to_the_form_when_the_login_has_ended(
    guarded: Running, page: Page
) -> None:
    """A screen that showed the log all night must not say that the connection is lost."""
    url = guarded.api.url
    headers = {"Authorization": f"Bearer {TOKENS['TOKEN']}"}
    async with aiohttp.ClientSession(headers=headers) as http:
        session, task = await Api(http, url).started()
        place = f"/console/tasks/{task.id}"
        await page.goto(f"{url}{place}")
        await page.get_by_label("Token").fill(TOKENS["READ_TOKEN"])
        await page.keyboard.press("Enter")
        await expect(page.locator(".count")).to_have_text("waiting for output")
        await page.context.clear_cookies()
        await page.evaluate("for (const n of ['pagehide', 'pageshow']) dispatchEvent(new Event(n))")
        await expect(page).to_have_url(f"{url}/login?next={quote(place, safe='')}", timeout=20_000)
        await Api(http, url).report(session, [], [exited(task.lease)])


async def test_the_form_works_without_scripts(guarded: Running, browser: Browser) -> None:
    """Buttons and forms are plain ones; only the log needs more."""
    context = await browser.new_context(java_script_enabled=False)
    page = await context.new_page()
    await page.goto(f"{guarded.api.url}/console/agents")
    await page.get_by_label("Token").fill(TOKENS["TOKEN"])
    await page.keyboard.press("Enter")
    await expect(page.locator("h1")).to_have_text("Agents")
    await context.close()
