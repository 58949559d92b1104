"""What tasks say of themselves does nothing in a browser, wherever it stands."""

from urllib.parse import quote

import pytest
from playwright.async_api import Browser, Page, expect

from tests.api.server import Api, chunk, exited, total
from tests.browser.seeing import until_rows

_EVIL = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    """"'><svg onload=alert(3)>""",
    "</textarea></title></style><iframe srcdoc='<script>parent.alert(4)</script>'>",
    "javascript:alert(5)",
    "\u202eevil\u2066",
    "<style>*{display:none}</style>",
]
_ESCAPES = [
    "\x1b]8;;javascript:alert(6)\x1b\\link\x1b]8;;\x1b\\",
    "\x1b]0;title\x07after",
    "\x1b]52;c;ZXZpbA==\x07after",
    "\x1b[2J\x1b[H\x1b[31m<b onclick=alert(7)>red</b>",
    "\x1b[38;2;1;2;3;url(http://evil)mx",
    "\x1bP1$r<script>\x1b\\",
    "\x9b31mx\x00\x08\x7f",
]
_FOUND = """() => ({
    scripts: document.scripts.length,
    foreign: document.querySelectorAll(
        'iframe, object, embed, svg[onload], [onerror], [onclick], style, main img, main script'
    ).length,
    links: [...document.querySelectorAll('a')]
        .filter(a => !a.href.startsWith(location.origin)).length,
    title: document.title,
})"""


@pytest.mark.parametrize("text", _EVIL)
async def test_hostile_names_are_text(api: Api, page: Page, text: str) -> None:
    """Of tasks, groups, agents, labels, commands and variables; on each page that shows them."""
    name = text.replace("\x00", "")
    label = "".join(name.split()).replace(",", ";")
    session = await api.open(label, agent=name, version=name)
    fields = {"name": name, "group": name, "env": {"A": name}, "cwd": f"/{name}"}
    number = await api.submit(command=f"echo {name}", needs=[label], **fields)
    (task,) = await api.claim(session, wait=5)
    places = ["/", "/console/tasks", f"/console/tasks/{number}", "/console/groups",
              f"/console/group?name={quote(name)}", "/console/agents",
              f"/console/tasks?name={quote(name)}&group={quote(name)}"]  # fmt: skip
    for place in places:
        await page.goto(f"{api.url}{place}")
        await expect(page.locator("main")).to_contain_text(name.strip())
        found = await page.evaluate(_FOUND)
        assert (found["scripts"], found["foreign"], found["links"]) == (1, 0, 0), place
    await api.report(session, [], [exited(task.lease)])
    await api.beat(session, closing=True)


async def test_hostile_lines_are_text(api: Api, page: Page) -> None:
    """In the log, painted and plain, on both streams, stored and live."""
    session, task = await api.started()
    lines = [*_EVIL, *_ESCAPES]
    data = "".join(f"{line}\n" for line in lines).encode()
    assert await api.report(session, [chunk(task.lease, data, at=0)]) == ["ok"]
    await page.goto(f"{api.url}/console/tasks/{task.id}")
    await until_rows(page, lambda seen: len(seen) == len(lines))
    again = [chunk(task.lease, data, stream="stderr", at=9)]
    result = exited(task.lease, stdout=total(data), stderr=total(data))
    assert await api.report(session, again, [result]) == ["ok", "ok"]
    seen = await until_rows(page, lambda seen: len(seen) == 2 * len(lines))
    assert [row["text"] for row in seen[: len(_EVIL)]] == _EVIL
    painted = [row["text"] for row in seen[len(_EVIL) : len(lines)]]
    assert painted[0] == "link"
    assert painted[3] == "<b onclick=alert(7)>red</b>"
    assert [row["text"] for row in seen[len(lines) :]] == [
        row["text"] for row in seen[: len(lines)]
    ]
    assert all(row["err"] for row in seen[len(lines) :])
    found = await page.evaluate(_FOUND)
    assert (found["scripts"], found["foreign"], found["links"]) == (1, 0, 0)
    assert found["title"].startswith(f"#{task.id} ")


async def test_the_policy_stops_what_would_get_in(api: Api, browser: Browser) -> None:
    """Were something not escaped, it would still not run."""
    page = await browser.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    await page.goto(f"{api.url}/console/tasks")
    await page.evaluate(
        """() => {
            globalThis.ran = 0;
            const script = document.createElement('script');
            script.textContent = 'globalThis.ran += 1';
            document.body.append(script);
            document.body.insertAdjacentHTML(
                'beforeend', '<p onmouseover="ran += 1" style="color: red">x</p>');
            document.body.lastChild.dispatchEvent(new Event('mouseover'));
        }"""
    )
    assert await page.evaluate("globalThis.ran") == 0
    assert (
        await page.evaluate("getComputedStyle(document.body.lastChild).color") != "rgb(255, 0, 0)"
    )
    assert any("Content Security Policy" in text for text in said)
    await page.close()
