"""Lines of logs over HTTP: by number, by what stands in them, of one task and of a group."""

from typing import Any

import pytest

from api import pages
from tests.api.server import BASE_US, Api, chunk, exited, total
from tests.api.writers import Writer, writer


async def _page(api: Api, number: int, **query: Any) -> dict[str, Any]:
    reply = await api.call("GET", f"/tasks/{number}/logs/lines", params=query)
    page: dict[str, Any] = reply.as_(dict)
    return page


def _shown(agent: Writer, first: int, count: int) -> list[tuple[int, str, str]]:
    """What a page should have."""
    return [
        (number, stream, line.decode().removesuffix("\n"))
        for number, (stream, line) in enumerate(agent.lines, 1)
        if first <= number < first + count
    ]


def _lines(page: dict[str, Any]) -> list[tuple[int, str, str]]:
    return [(each["line"], each["stream"], each["text"]) for each in page["lines"]]


async def _written(api: Api, chunks: int = 12, **fields: Any) -> Writer:
    agent = await writer(api, 7, **fields)
    for count in range(chunks):
        await agent.write(3 + count)
    return agent


async def test_pages_go_through_a_log(api: Api) -> None:
    """Each says where the next one begins; together they are the log."""
    agent = await _written(api)
    await agent.end()
    found, line, pages_ = [], 1, 0
    while line is not None:
        page = await _page(api, agent.task.id, line=line, lines=10)
        assert page["total"] == len(agent.lines)
        found += _lines(page)
        line = page["next"]
        pages_ += 1
    assert found == _shown(agent, 1, 10**6)
    assert pages_ == -(-len(agent.lines) // 10)
    assert page["state"] == "complete"
    size = {stream: len(data) for stream, data in agent.logs.items()}
    assert page["after"] == f"1.{size['stdout']}.{size['stderr']}.{len(agent.lines)}"


async def test_a_page_in_the_middle_and_the_last_one(api: Api) -> None:
    """A link to a line; and what people look at first."""
    agent = await _written(api)
    number = agent.task.id
    for line in (1, 2, 33, len(agent.lines) - 1):
        page = await _page(api, number, line=line, lines=7)
        assert _lines(page) == _shown(agent, line, 7), line
    last = await _page(api, number, tail="true", lines=5)
    assert _lines(last) == _shown(agent, len(agent.lines) - 4, 5)
    assert (last["next"], last["state"]) == (None, "open")
    alone = await _page(api, number, stream="stderr", line=3, lines=2)
    of_stderr = [line for stream, line in agent.lines if stream == "stderr"]
    assert [(each["line"], each["text"] + "\n") for each in alone["lines"]] == [
        (3, of_stderr[2].decode()), (4, of_stderr[3].decode()),
    ]  # fmt: skip
    beyond = await _page(api, number, line=10**6)
    assert (beyond["lines"], beyond["next"], beyond["total"]) == ([], None, len(agent.lines))


async def test_a_line_says_where_and_when_and_that_it_is_cut(api: Api) -> None:
    """One of a megabyte is shown by its beginning; bytes that are no text are there too."""
    session, task = await api.started()
    data = b"one\n" + "ä".encode() * 400_000 + b"\n\xff\n"
    await api.report(session, [chunk(task.lease, data, at=5)])
    page = await _page(api, task.id)
    first, long, last = page["lines"]
    assert first == {
        "line": 1, "stream": "stdout", "at_us": BASE_US + 5000, "offset": 0, "text": "one",
    }  # fmt: skip
    assert (long["text"], long["cut"], long["offset"]) == ("ä" * 8192, 800_000 - 16_384, 4)
    assert (last["text"], last["base64"], last["line"]) == ("\ufffd", "/w==", 3)


async def test_a_long_line_that_goes_on_is_open(api: Api) -> None:
    """Also where all of it that is stored has left in pieces."""
    session, task = await api.started()
    await api.report(session, [chunk(task.lease, b"y" * 1024 * 1024, at=1)])
    path = f"/tasks/{task.id}/logs/lines"
    (line,) = (await api.call("GET", path)).as_(dict)["lines"]
    assert (line["open"], line["cut"]) == (True, 1024 * 1024 - 16_384)
    await api.report(session, [], [exited(task.lease)])
    (line,) = (await api.call("GET", path)).as_(dict)["lines"]
    assert "open" not in line


async def test_a_page_of_a_task_that_never_ran(api: Api) -> None:
    """It is empty, and live goes on from its beginning."""
    number = await api.submit()
    page = await _page(api, number)
    assert page == {
        "task": number, "attempt": 0, "state": "open", "total": 0, "lines": [], "next": None,
        "after": "0.0.0.0",
    }  # fmt: skip


async def test_text_from_a_line_on(api: Api) -> None:
    """For curl: as the page has it."""
    agent = await _written(api)
    number = agent.task.id
    text = await api.log(number, line=20, lines=3, numbers="true")
    assert text == "".join(f"{line}:{text}\n" for line, _, text in _shown(agent, 20, 3))
    tail = await api.log(number, tail=2, numbers="true", timestamps="elapsed")
    assert [line.partition(":")[0] for line in tail.splitlines()] == [
        str(len(agent.lines) - 1), str(len(agent.lines)),
    ]  # fmt: skip


async def test_grep(api: Api) -> None:
    """Lines, or pages of them, with their numbers."""
    agent = await _written(api)
    number = agent.task.id
    wanted = [(line, text) for line, _, text in _shown(agent, 1, 10**6) if "a7" in text]
    assert 3 < len(wanted) < len(agent.lines)
    text = await api.log(number, grep="a7", numbers="true")
    assert text == "".join(f"{line}:{found}\n" for line, found in wanted)
    tail = await api.log(number, grep="a7", tail=2, numbers="true")
    assert tail == "".join(f"{line}:{found}\n" for line, found in wanted[-2:])
    found, line = [], 1
    while line is not None:
        page = await _page(api, number, grep="a7", line=line, lines=3)
        found += [(each["line"], each["text"]) for each in page["lines"]]
        assert page["after"] is None
        line = page["next"]
    assert found == wanted
    assert await api.log(number, grep="A7", ignore_case="true") == await api.log(number, grep="a7")
    assert await api.log(number, grep="A7") == ""
    one = f"{agent.lines[9][1].split()[0].decode()} *"
    assert (await api.log(number, grep=one, wildcards="true")).encode() >= agent.lines[9][1]
    assert await api.log(number, grep=one) == ""


async def test_a_search_that_takes_long_says_where_to_go_on(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gigabyte is searched in as many requests as it takes; each gets on."""
    monkeypatch.setattr(pages, "_SEARCH_S", 0.0)
    agent = await _written(api, 5)
    line, found, requests = 1, [], 0
    while line is not None:
        page = await _page(api, agent.task.id, grep=" ", line=line, lines=500)
        found += _lines(page)
        line = page["next"]
        requests += 1
    assert found == _shown(agent, 1, 10**6)
    assert requests > 5


async def test_grep_in_a_whole_group(api: Api) -> None:
    """It names the task of each hit; a task without output, and a last line without newline."""
    agents = [await writer(api, seed, group="grepped") for seed in range(3)]
    await api.submit(group="grepped")
    for agent in agents:
        await agent.write(20)
    cut = chunk(agents[1].task.lease, b"a7 and no newline", offset=len(agents[1].logs["stdout"]))
    await api.report(agents[1].session, [cut])
    await agents[1].end(stdout=total(agents[1].logs["stdout"] + b"a7 and no newline"))
    expected = ""
    for agent in agents:
        lines = [*agent.lines]
        if agent is agents[1]:
            lines.append(("stdout", b"a7 and no newline\n"))
        for line, (_, text) in enumerate(lines, 1):
            if b"a7" in text:
                expected += f"{agent.task.id}:{line}:{text.decode()}"
    assert expected.count("\n") > 4
    reply = await api.call("GET", "/groups/grepped/logs", params={"grep": "a7"})
    assert reply.text == expected
    whole = await api.call("GET", "/groups/grepped/logs", params={"tail": 1})
    assert [line.split(":")[0] for line in whole.text.splitlines()] == [
        str(agent.task.id) for agent in agents
    ]


async def test_a_second_attempt_is_the_one_that_is_searched(api: Api) -> None:
    """And an earlier one by its number."""
    session, task = await api.started()
    await api.report(session, [chunk(task.lease, b"first\n")], [exited(task.lease, 1)])
    await api.post(f"/tasks/{task.id}/retry", {})
    (again,) = await api.claim(session, wait=10)
    await api.report(session, [chunk(again.lease, b"second\n")])
    assert await api.log(task.id, grep="s") == "second\n"
    assert await api.log(task.id, grep="s", attempt=1) == "first\n"
    assert (await _page(api, task.id, attempt=1))["lines"][0]["text"] == "first"


@pytest.mark.parametrize(
    ("path", "status", "word"),
    [
        ("/tasks/{}/logs?grep=", 400, "grep"),
        ("/tasks/{}/logs?grep=a%0Ab", 400, "newline"),
        ("/tasks/{}/logs?grep=*&wildcards=true", 400, "grep"),
        ("/tasks/{}/logs?line=0", 400, "line"),
        ("/tasks/{}/logs?line=2&offset=3&stream=stdout", 400, "offset"),
        ("/tasks/{}/logs/lines?lines=0", 400, "lines"),
        ("/tasks/{}/logs/lines?lines=5001", 400, "lines"),
        ("/tasks/{}/logs/lines?tail=true&line=3", 400, "tail"),
        ("/tasks/{}/logs/lines?attempt=3", 404, "attempt 3"),
        ("/tasks/999999/logs/lines", 404, "999999"),
        ("/groups/nobody/logs", 404, "nobody"),
        ("/groups/a%00b/logs", 404, "group"),
    ],
)
async def test_what_cannot_be_shown_is_told(api: Api, path: str, status: int, word: str) -> None:
    """And nothing is half shown."""
    number = await api.submit()
    (await api.call("GET", path.format(number))).problem(status, word)
