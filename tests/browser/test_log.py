"""The log of a task in a browser: live, long, searched, linked, copied."""

import asyncio
import os
import sys
import time
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from benchmarks.server import BenchServer
from tests.api.server import BASE_US, Api, chunk, exited, total
from tests.browser.seeing import (
    rows,
    texts,
    until_count,
    until_line,
    until_rows,
    until_texts,
)

_LINES = 1_000_000
_IN_CHUNK = 10_000


async def _logged(api: Api, *parts: tuple[str, bytes], code: int = 0) -> int:
    """A task that wrote this, and ended."""
    session, task = await api.started()
    written = {"stdout": b"", "stderr": b""}
    for place, (stream, data) in enumerate(parts):
        sent = chunk(task.lease, data, stream=stream, offset=len(written[stream]), at=place)
        assert await api.report(session, [sent]) == ["ok"]
        written[stream] += data
    totals = {stream: total(data) for stream, data in written.items()}
    assert await api.report(session, [], [exited(task.lease, code, **totals)]) == ["ok"]
    return task.id


@pytest.fixture(scope="session")
async def long_log(server: BenchServer) -> int:
    """A log of a million lines; the number of its task."""
    import aiohttp  # noqa: PLC0415 - of this fixture alone, which outlives the others' sessions

    async with aiohttp.ClientSession() as http:
        api = Api(http, f"http://127.0.0.1:{server.port}")
        session, task = await api.started(name="a million lines")
        offset = 0
        for first in range(1, _LINES + 1, _IN_CHUNK):
            data = b"".join(
                b"%07d frame %d took 16.%03d ms, all is well\n" % (n, n, n % 997)
                for n in range(first, first + _IN_CHUNK)
            )
            sent = chunk(task.lease, data, offset=offset, at=first)
            assert await api.report(session, [sent]) == ["ok"]
            offset += len(data)
        assert await api.report(session, [], [exited(task.lease)]) == ["ok"]
        return task.id


async def test_lines_come_while_the_task_runs(api: Api, page: Page, tmp_path: Path) -> None:
    """Each as it is written, from both streams, though the agent would keep them for an hour."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    loop = 'while read line; do echo "out $line"; echo "err $line" >&2; done'
    number = await api.submit(command=f"{loop} < {gate}; exit 3", needs=["farm"])
    await page.goto(f"{api.url}/console/tasks/{number}")
    await expect(page.locator("#head")).to_contain_text("running")
    writer = await asyncio.to_thread(gate.open, "w")
    with writer:
        waits_ms = []
        for line in range(1, 6):
            began = time.perf_counter()
            writer.write(f"{line}\n")
            writer.flush()
            seen = await until_count(page, 2 * line)
            waits_ms.append(round(1000 * (time.perf_counter() - began)))
            assert {(row["text"], row["err"]) for row in seen[-2:]} == {
                (f"out {line}", False), (f"err {line}", True),
            }  # fmt: skip
            assert [row["line"] for row in seen] == list(range(1, 2 * line + 1))
        sys.stdout.write(f"from write() to the screen: {sorted(waits_ms)} ms\n")
        await expect(page.locator(".follow")).to_have_attribute("aria-pressed", "true")
    await expect(page.locator("#head")).to_contain_text("exit 3")
    await expect(page.locator("#head")).to_contain_text("failed")
    await expect(page.locator(".follow")).to_be_hidden()


async def test_a_line_that_is_not_over_is_seen(api: Api, page: Page) -> None:
    """A progress bar moves in its place; over, it gets its number."""
    session, task = await api.started()
    await page.goto(f"{api.url}/console/tasks/{task.id}")
    out = b"begun\n"
    await api.report(session, [chunk(task.lease, out, at=0)])
    for percent in (10, 55):
        more = b"\r%d %%" % percent
        await api.report(session, [chunk(task.lease, more, offset=len(out), at=percent)])
        out += more
        await until_texts(page, ["begun", f"{percent} %"])
    assert [row["line"] for row in await rows(page)] == [1, 0]
    more = b"\rdone"
    result = exited(task.lease, stdout=total(out + more), stderr=total(b""))
    await api.report(session, [chunk(task.lease, more, offset=len(out), at=99)], [result])
    seen = await until_rows(page, lambda seen: [row["line"] for row in seen] == [1, 2])
    assert seen[1]["text"] == "done"


async def test_following_lets_go_when_somebody_scrolls_up(api: Api, page: Page) -> None:
    """Who reads is not torn away; at the end, or with the button, it goes on."""
    session, task = await api.started()
    out = b"".join(b"line %d\n" % n for n in range(1, 501))
    await api.report(session, [chunk(task.lease, out, at=0)])
    await page.goto(f"{api.url}/console/tasks/{task.id}")
    await until_rows(page, lambda seen: bool(seen) and seen[-1]["text"] == "line 500")
    follow = page.locator(".follow")
    await expect(follow).to_have_attribute("aria-pressed", "true")
    await page.locator(".lines").hover()
    await page.mouse.wheel(0, -1000)
    await expect(follow).to_have_attribute("aria-pressed", "false")
    seen = await until_rows(page, lambda seen: bool(seen) and seen[-1]["text"] != "line 500")
    more = b"".join(b"line %d\n" % n for n in range(501, 601))
    await api.report(session, [chunk(task.lease, more, offset=len(out), at=5)])
    await expect(page.locator(".count")).to_have_text("600 lines")
    assert (await rows(page))[0] == seen[0]
    await follow.click()
    await until_rows(page, lambda seen: bool(seen) and seen[-1]["text"] == "line 600")
    await page.locator(".lines").hover()
    await page.mouse.wheel(0, -500)
    await expect(follow).to_have_attribute("aria-pressed", "false")
    await page.mouse.wheel(0, 5000)
    await expect(follow).to_have_attribute("aria-pressed", "true")


async def test_a_link_leads_to_the_middle_of_a_million_lines(
    api: Api, page: Page, long_log: int
) -> None:
    """At once, and with no more in the page than what is seen."""
    began = time.perf_counter()
    await page.goto(f"{api.url}/console/tasks/{long_log}?attempt=1#L500000")
    seen = await until_rows(page, lambda seen: any(row["line"] == 500_000 for row in seen))
    took_s = time.perf_counter() - began
    assert all(row["text"].startswith(f"{row['line']:07d} frame") for row in seen)
    await expect(page.locator(".row.target .n")).to_have_attribute("data-n", "500000")
    await expect(page.locator(".count")).to_have_text("1,000,000 lines")
    session = await page.context.new_cdp_session(page)
    await session.send("Performance.enable")
    metrics = {
        each["name"]: each["value"]
        for each in (await session.send("Performance.getMetrics"))["metrics"]
    }
    heap_mib = metrics["JSHeapUsedSize"] / 2**20
    sys.stdout.write(
        f"first line after {took_s:.2f} s, {heap_mib:.1f} MiB, {metrics['Nodes']:.0f} nodes\n"
    )
    assert took_s < 5
    assert metrics["Nodes"] < 5_000
    assert heap_mib < 30


async def test_a_million_lines_scroll(api: Api, page: Page, long_log: int) -> None:
    """By the wheel line by line, by the bar anywhere; the numbers stay those of the text."""
    await page.goto(f"{api.url}/console/tasks/{long_log}")
    await until_line(page, _LINES, _LINES, -1)
    box = page.locator(".lines")
    await box.hover()
    last = _LINES
    for _ in range(5):
        await page.mouse.wheel(0, -180)
        seen = await until_line(page, 1, last - 1, -1)
        assert last - seen[-1]["line"] <= 12, "a wheel moves by pixels"
        last = seen[-1]["line"]
    for part in (0.25, 0.75, 0.5, 0, 1):
        await box.evaluate("(box, part) => { box.scrollTop = part * box.scrollHeight; }", part)
        wanted = part * _LINES
        seen = await until_line(page, wanted - 200, wanted + 200, 0)
        assert all(row["text"].startswith(f"{row['line']:07d} ") for row in seen)
    await page.keyboard.press("Home")
    frames = await box.evaluate(
        """box => new Promise(done => {
            const waits = []; let last = performance.now(), left = 120;
            const step = now => {
                waits.push(now - last); last = now; box.scrollTop += 90;
                if (--left) requestAnimationFrame(step); else done(waits.slice(2));
            };
            requestAnimationFrame(step);
        })"""
    )
    middle_ms, worst_ms = sorted(frames)[len(frames) // 2], max(frames)
    sys.stdout.write(f"frames while scrolling: {middle_ms:.1f} ms, at most {worst_ms:.1f} ms\n")
    assert middle_ms < 50


async def test_keys_move_through_a_million_lines(api: Api, page: Page, long_log: int) -> None:
    """To the very first and the very last line, and by pages; also before anything was clicked."""
    await page.goto(f"{api.url}/console/tasks/{long_log}")
    await until_line(page, _LINES, _LINES, -1)
    for _ in range(2):
        await page.keyboard.press("Home")
        await until_line(page, 1, 1, 0)
        await page.keyboard.press("PageDown")
        await until_line(page, 15, 40, 0)
        await page.keyboard.press("End")
        await until_line(page, _LINES, _LINES, -1)
        await page.keyboard.press("PageUp")
        await until_line(page, _LINES - 40, _LINES - 15, -1)
    await expect(page.locator(".lines")).to_be_focused()


async def test_a_search_goes_from_hit_to_hit(api: Api, page: Page, long_log: int) -> None:
    """The server looks; the page shows where it stands, and marks it."""
    await page.goto(f"{api.url}/console/tasks/{long_log}")
    await until_line(page, _LINES, _LINES, -1)
    await page.keyboard.press("/")
    await page.keyboard.type("FRAME 77777")
    await expect(page.locator(".found")).to_have_text("not found", timeout=30_000)
    await page.locator(".find").fill("frame 77777")
    await expect(page.locator(".found")).to_have_text("1 of 11", timeout=30_000)
    await until_rows(page, lambda seen: any(row["line"] == 77_777 for row in seen))
    await page.keyboard.press("Enter")
    await expect(page.locator(".found")).to_have_text("2 of 11")
    await until_rows(page, lambda seen: any(row["line"] == 777_770 for row in seen))
    await expect(page.locator(".row.hit .n")).to_have_attribute("data-n", "777770")
    await page.keyboard.press("Shift+Enter")
    await page.keyboard.press("Shift+Enter")
    await expect(page.locator(".found")).to_have_text("11 of 11")
    assert await page.evaluate("CSS.highlights.get('found').size") >= 1
    await page.keyboard.press("Escape")
    await expect(page.locator(".found")).to_have_text("")


async def test_what_is_copied_is_what_was_written(api: Api, page: Page) -> None:
    """Without numbers and times, with its blank lines and tabs."""
    out = b"\x1b[1mfirst\x1b[0m line\n\n\tindented  twice\nlast\n"
    number = await _logged(api, ("stdout", out), ("stderr", b"bad\n"))
    await page.goto(f"{api.url}/console/tasks/{number}")
    await page.locator(".times").select_option("iso")
    await until_count(page, 5)
    await page.evaluate("getSelection().selectAllChildren(document.querySelector('.window'))")
    await page.keyboard.press("Control+c")
    copied = await page.evaluate("navigator.clipboard.readText()")
    assert copied.rstrip("\n") == "first line\n\n\tindented  twice\nlast\nbad"


async def test_a_line_that_is_too_long_says_so_where_it_is_seen(api: Api, page: Page) -> None:
    """Not at its end, which is a hundred screens to the right."""
    number = await _logged(api, ("stdout", b"x" * 100_000 + b"\nafter\n"))
    await page.goto(f"{api.url}/console/tasks/{number}")
    await until_count(page, 2)
    left_out = page.locator(".left-out")
    await expect(left_out).to_have_attribute("data-t", "… 83,616 more")
    await expect(left_out).to_be_in_viewport()


async def test_a_log_that_is_cut_says_so(api: Api, page: Page) -> None:
    """Nobody should look for a reason in the part that was left out."""
    session, task = await api.started()
    out = b"begin\nend\n"
    totals = {"stdout": total(out) | {"left_out": 5000}, "stderr": total(b"")}
    result = exited(task.lease, 1, **totals)
    assert await api.report(session, [chunk(task.lease, out, at=0)], [result]) == ["ok", "ok"]
    await page.goto(f"{api.url}/console/tasks/{task.id}")
    await expect(page.locator(".note")).to_contain_text("More was written than is kept")


async def test_times_are_shown_on_demand(api: Api, page: Page) -> None:
    """As a clock, or since the beginning; and are remembered."""
    number = await _logged(api, ("stdout", b"one\n"))
    await page.goto(f"{api.url}/console/tasks/{number}")
    await until_count(page, 1)
    await page.locator(".times").select_option("iso")
    stamp = page.locator(".row .t")
    wanted = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(BASE_US / 1e6))
    await expect(stamp).to_have_attribute("data-t", f"{wanted}.000")
    await page.reload()
    await expect(stamp).to_have_attribute("data-t", f"{wanted}.000")
    await page.locator(".times").select_option("elapsed")
    await expect(stamp).to_have_attribute("data-t", "0:00.000")


async def test_one_stream_alone_has_numbers_of_its_own(api: Api, page: Page) -> None:
    """As the routes for programs count them."""
    number = await _logged(
        api, ("stdout", b"a\n"), ("stderr", b"b\n"), ("stdout", b"c\n"), ("stderr", b"d\n")
    )
    await page.goto(f"{api.url}/console/tasks/{number}")
    seen = await until_count(page, 4)
    assert [row["text"] for row in seen] == ["a", "b", "c", "d"]
    await page.locator(".streams").select_option("stderr")
    seen = await until_count(page, 2)
    assert [(row["line"], row["text"]) for row in seen] == [(1, "b"), (2, "d")]


async def test_a_line_is_chosen_by_its_number(api: Api, page: Page) -> None:
    """The address names the attempt, since there may be another one tomorrow."""
    number = await _logged(api, ("stdout", b"a\nb\nc\n"))
    await page.goto(f"{api.url}/console/tasks/{number}")
    await page.locator(".row .n").nth(1).click()
    await expect(page).to_have_url(f"{api.url}/console/tasks/{number}?attempt=1#L2")
    await expect(page.locator(".row.target .x")).to_have_text("b")


async def test_a_retry_shows_the_new_attempt(api: Api, page: Page) -> None:
    """Cancel and retry by their buttons: the page stays, and the log begins anew."""
    number = await api.submit(command="echo attempt $DW_ATTEMPT; exec sleep 600", needs=["farm"])
    await page.goto(f"{api.url}/console/tasks/{number}")
    await until_texts(page, ["attempt 1"])
    await page.get_by_role("button", name=f"Cancel task {number}").click()
    await expect(page.locator("#head")).to_contain_text("cancelled", timeout=30_000)
    assert await texts(page) == ["attempt 1"]
    await page.get_by_role("button", name=f"Retry task {number}").click()
    await until_texts(page, ["attempt 2"], 30)
    await expect(page.locator("#head")).to_contain_text("running")
    await page.get_by_role("button", name=f"Cancel task {number}").click()
    await expect(page.locator("#head")).to_contain_text("cancelled", timeout=30_000)
    await page.locator(".attempts a").last.click()
    await until_texts(page, ["attempt 1"])
