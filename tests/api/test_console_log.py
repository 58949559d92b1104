"""What the page of a task asks for: rows, hits, news; and pages that change by themselves."""

import asyncio
from typing import Any

import pytest

from tests.api.events import Event, Viewer
from tests.api.pages import Page
from tests.api.server import Api, chunk, eventually, exited, total
from tests.api.writers import writer


async def _json(api: Api, path: str) -> dict[str, Any]:
    reply = await api.call("GET", path)
    assert "content-security-policy" in reply.headers
    return reply.as_(dict[str, Any])


async def test_rows_are_a_page_of_painted_lines(api: Api) -> None:
    """From a line on, or the last ones."""
    session, task = await api.started()
    out = b"".join(b"\x1b[3%dmline %d\x1b[0m\n" % (n % 8, n) for n in range(1, 1001))
    sent = [chunk(task.lease, out, at=0), chunk(task.lease, b"<b>bad\n", stream="stderr", at=9)]
    assert await api.report(session, sent) == ["ok", "ok"]
    page = await _json(api, f"/console/tasks/{task.id}/rows?line=500&lines=2")
    assert (page["attempt"], page["total"], page["first"], page["after"]) == (1, 1001, 500, None)
    assert [row["x"] for row in page["rows"]] == [
        [["line 500", "fg4", "", ""]], [["line 501", "fg5", "", ""]],
    ]  # fmt: skip
    page = await _json(api, f"/console/tasks/{task.id}/rows?tail=true&lines=1")
    assert (page["first"], page["rows"][0]["x"], page["rows"][0]["e"]) == (1001, "<b>bad", True)
    assert page["after"] == f"1.{len(out)}.7.1001"
    page = await _json(api, f"/console/tasks/{task.id}/rows?stream=stderr")
    assert (page["total"], page["rows"][0]["x"]) == (1, "<b>bad")
    (await api.call("GET", f"/console/tasks/{task.id}/rows?attempt=2")).problem(404)
    (await api.call("GET", f"/console/tasks/{task.id}/rows?lines=1001")).problem(400)


async def test_a_task_that_never_ran_has_no_rows_and_a_position(api: Api) -> None:
    """Whoever has its page open sees it begin."""
    number = await api.submit()
    page = await _json(api, f"/console/tasks/{number}/rows?tail=true")
    assert (page["attempt"], page["total"], page["rows"], page["after"]) == (0, 0, [], "0.0.0.0")


async def test_a_line_that_is_not_over_comes_with_the_news(api: Api) -> None:
    """Whole, from its beginning, so that it has its colours and, once over, its number."""
    session, task = await api.started()
    sent = [chunk(task.lease, b"one\n\x1b[31mtw", at=0)]
    assert await api.report(session, sent) == ["ok"]
    page = await _json(api, f"/console/tasks/{task.id}/rows?tail=true")
    assert ([row["x"] for row in page["rows"]], page["total"]) == (["one"], 1)
    assert page["after"] == "1.4.0.1"
    viewer = Viewer(api, f"/console/tasks/{task.id}/live?after={page['after']}")
    opened: list[Event] = []

    def has_it(_: Viewer) -> bool:
        opened[:] = [each for each in viewer.events if each.name == "rows" and each.data["open"]]
        return bool(opened)

    await asyncio.wait_for(viewer.watch(has_it), 15)
    assert opened[0].data["open"][0]["x"] == [["tw", "fg1", "", ""]]
    assert opened[0].id == "1.4.0.1"
    more = [chunk(task.lease, b"o\n", offset=len(b"one\n\x1b[31mtw"), at=5)]
    out = b"one\n\x1b[31mtwo\n"
    result = exited(task.lease, stdout=total(out), stderr=total(b""))
    assert await api.report(session, more, [result]) == ["ok", "ok"]
    await asyncio.wait_for(viewer.watch(), 15)
    rows = [each.data for each in viewer.events if each.name == "rows" and each.data["rows"]]
    assert [(each["first"], each["rows"][0]["x"]) for each in rows] == [
        (2, [["two", "fg1", "", ""]])
    ]
    assert [each.name for each in viewer.events][-2:] == ["log", "end"]


@pytest.mark.parametrize("seed", range(5))
async def test_a_page_and_its_news_are_the_whole_log(api: Api, seed: int) -> None:
    """No row is missing and none comes twice, wherever the page ended and the news began."""
    task = await writer(api, seed)
    await task.write(7)
    page = await _json(api, f"/console/tasks/{task.task.id}/rows?tail=true&lines=1000")
    rows = {page["first"] + at: row for at, row in enumerate(page["rows"])}
    viewer = Viewer(api, f"/console/tasks/{task.task.id}/live?after={page['after']}")
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(viewer.watch())
        for _ in range(5):
            await task.write(4)
        await task.end()
        await asyncio.wait_for(watching, 15)
    for event in viewer.events:
        if event.name == "rows":
            for at, row in enumerate(event.data["rows"]):
                assert rows.setdefault(event.data["first"] + at, row) is row
    page = await _json(api, f"/console/tasks/{task.task.id}/rows?lines=1000")
    assert [rows[number] for number in sorted(rows)] == page["rows"]
    assert page["total"] == len(rows) == len(task.lines)


async def test_a_search_gives_the_numbers_of_lines(api: Api) -> None:
    """Their text comes when they are looked at."""
    session, task = await api.started()
    out = b"".join(b"line %d%b\n" % (n, b" Timed out" * (n % 10 == 0)) for n in range(1, 101))
    assert await api.report(session, [chunk(task.lease, out, at=0)]) == ["ok"]
    path = f"/console/tasks/{task.id}/find?grep="
    found = await _json(api, f"{path}Timed%20out")
    assert found == {"lines": list(range(10, 101, 10)), "next": None, "total": 100}
    assert (await _json(api, f"{path}timed&ignore_case=true&line=95"))["lines"] == [100]
    assert (await _json(api, f"{path}timed"))["lines"] == []
    (await api.call("GET", path)).problem(400, "grep")


async def test_a_page_tells_what_changed(own_api: Api) -> None:
    """As one event with its main part, again when it is another."""
    api = own_api
    viewer = Viewer(api, "/console/tasks")

    async def pages() -> list[str]:
        return [each.data for each in viewer.events if each.name == "page"]

    headers = {"Accept": "text/event-stream"}
    async with api.http.get("http://localhost/console/tasks", headers=headers) as reply:
        assert reply.headers["Content-Type"].startswith("text/event-stream")
        assert "Content-Security-Policy" in reply.headers
        events = viewer.read(reply)
        viewer.take(await asyncio.wait_for(anext(events), 15))
        number = await api.submit(name="<b>new")
        viewer.take(await asyncio.wait_for(anext(events), 15))
    first, second = await eventually(pages, lambda told: len(told) == 2)
    assert "No tasks yet." in first
    assert f"#{number}" in second
    assert "&lt;b&gt;new" in second
    assert "<html" not in second


async def test_the_news_of_a_page_are_its_own(own_api: Api) -> None:
    """What they bring is what the page has, but for the words of times."""
    api = own_api
    await api.submit(name="one")
    headers = {"Accept": "text/event-stream"}
    for path in ("/", "/console/tasks", "/console/groups", "/console/agents"):
        page = Page(await api.call("GET", path, headers={"Accept": "text/html"}))
        viewer = Viewer(api, path)
        async with api.http.get(f"http://localhost{path}", headers=headers) as reply:
            told = await asyncio.wait_for(anext(viewer.read(reply)), 15)
        for section in page.all("section"):
            if "id" in section.attributes:
                assert f'id="{section.attributes["id"]}"' in told.data
