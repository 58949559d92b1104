"""Pages of the console: what they show to whom, and that what tasks say stays text."""

from typing import Any

import pytest

from api.console import assets
from tests.api.conftest import StartApi
from tests.api.pages import Page
from tests.api.server import Api, chunk, exited, total

_BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
_TOKENS: dict[str, Any] = {
    "token": "a secret of an admin", "submit_token": "a secret to submit with",
    "read_token": "a secret to read with", "agent_token": "a secret of agents",
}  # fmt: skip
_EVIL = """<script>alert(1)</script>"'><img src=x onerror=alert(2)></td>{{ 7 * 7 }}"""


async def look(api: Api, path: str, *, status: int = 200, token: str | None = None) -> Page:
    """Open a page, as a browser."""
    headers = _BROWSER | ({} if token is None else {"Authorization": f"Bearer {token}"})
    return Page(await api.call("GET", path, headers=headers), status)


async def failed(api: Api, log: bytes = b"oops\n", **fields: Any) -> int:
    """A task that failed with exit code 3."""
    session, task = await api.started(**fields)
    sent = [chunk(task.lease, log, at=0)]
    result = exited(task.lease, 3, stdout=total(log), stderr=total(b""), run_s=1.5)
    assert await api.report(session, sent, [result]) == ["ok", "ok"]
    return task.id


async def test_the_first_page_is_for_browsers_only(api: Api) -> None:
    """Scripts that ask whether the server is there get a line, as they always did."""
    reply = await api.call("GET", "/", headers={"Accept": "*/*"})
    assert reply.headers["content-type"].startswith("text/plain")
    assert reply.text.startswith("distributed-worker: ")
    assert reply.text.count("\n") == 1
    assert (await look(api, "/")).all("section", id="numbers")


async def test_what_runs_fails_and_waits_is_on_the_first_page(own_api: Api) -> None:
    """Each with its way on."""
    api = own_api
    number = await failed(api, name="checkout test", group="nightly")
    _, runs = await api.started(name="long one")
    await api.submit(needs=["os=android-15"])
    page = await look(api, "/")
    assert "checkout test" in page.text
    assert "exit 3" in page.text
    assert "long one" in page.text
    assert page.all("a", href=f"/console/tasks/{number}")
    assert page.all("a", href=f"/console/tasks/{runs.id}")
    assert page.all("a", href="/console/group?name=nightly")
    assert "os=android-15" in page.text
    assert "1 failed" in page.text
    assert page.all("svg", role="img")


async def test_an_empty_server_says_what_to_do(own_api: Api) -> None:
    """The first thing that anybody sees of it."""
    page = await look(own_api, "/")
    assert "Nothing has failed." in page.text
    assert "dw submit -- echo hello" in page.text
    assert "No tasks yet." in (await look(own_api, "/console/tasks")).text
    assert "No groups yet." in (await look(own_api, "/console/groups")).text
    assert "No agents." in (await look(own_api, "/console/agents")).text


async def test_tasks_are_filtered_and_paged(own_api: Api) -> None:
    """As the list for programs does it; filters stay in the form and in the links."""
    api = own_api
    bodies = [{"command": f"run {n}", "group": "g/1", "needs": ["nobody"]} for n in range(120)]
    await api.post("/tasks", bodies)
    other = await api.submit(name="other")
    await api.call("POST", f"/tasks/{other}/cancel")
    page = await look(api, "/console/tasks?status=pending&group=g/1&name=&agent=")
    assert "run 119" in page.text
    assert "other" not in page.text
    assert len(page.all("tr")) == 51
    assert page.all("input", name="group", value="g/1")
    assert [
        each.attributes["value"] for each in page.all("input", type="checkbox", checked="")
    ] == ["pending"]
    seen = 50
    while following := page.all("a", rel="next"):
        page = await look(api, following[0].attributes["href"])
        seen += len(page.all("tr")) - 1
    assert seen == 120
    assert page.all("a", href="/console/tasks?status=pending&group=g%2F1")
    assert "No tasks match." in (await look(api, "/console/tasks?name=none")).text
    await look(api, "/console/tasks?status=lost", status=400)
    await look(api, "/console/tasks?cursor=x", status=400)


async def test_a_task_says_what_it_is_and_why_it_waits(own_api: Api) -> None:
    """And what became of each attempt."""
    api = own_api
    number = await api.submit(
        command="make test\necho two", needs=["gpu"], env={"LANG": "C"}, timeout=90, cwd="/tmp"
    )
    page = await look(api, f"/console/tasks/{number}")
    for text in ("echo two", "gpu", "LANG", "1 min 30 s", "Why it is waiting", "no live agent"):
        assert text in page.text, text
    number = await failed(api)
    await api.post(f"/tasks/{number}/retry", {"after_attempt": 1})
    page = await look(api, f"/console/tasks/{number}")
    assert page.all("a", href=f"/console/tasks/{number}?attempt=1")
    page = await look(api, f"/console/tasks/{number}?attempt=1")
    (log,) = page.all("section", **{"class": "log"})
    assert log.attributes["data-attempt"] == "1"
    assert page.all("a", href=f"/tasks/{number}/logs?attempt=1")
    assert (
        "there is no attempt 7"
        in (await look(api, f"/console/tasks/{number}?attempt=7", status=404)).text
    )
    assert "there is no task 98765" in (await look(api, "/console/tasks/98765", status=404)).text


async def test_a_page_that_is_none_is_a_page(api: Api) -> None:
    """Somebody has typed an address, or was sent half of one; programs get a problem."""
    for path in ("/console/nothing", "/console/tasks/abc", "/consol", "/<script>"):
        page = await look(api, path, status=404)
        assert f"there is no {path}" in page.text
        assert page.all("a", href="/")
        reply = await api.call("GET", path)
        reply.problem(404, f"there is no {path}")


async def test_attempts_that_people_asked_for_are_not_counted_against_the_task(
    own_api: Api,
) -> None:
    """`Attempt 2 of 1` would make no sense, and `0 of 1` not much."""
    number = await own_api.submit()
    assert "none yet of 1" in (await look(own_api, f"/console/tasks/{number}")).text
    number = await failed(own_api)
    assert "1 of 1" in (await look(own_api, f"/console/tasks/{number}")).text
    await own_api.post(f"/tasks/{number}/retry", {})
    session = await own_api.open(*(await own_api.task(number)).needs)
    await own_api.claim(session, wait=5)
    assert "of 1" not in (await look(own_api, f"/console/tasks/{number}")).text


async def test_a_group_shows_its_failures_first(own_api: Api) -> None:
    """Before what runs, and what took long."""
    api = own_api
    number = await failed(api, group="night/2", name="broken")
    await api.started(group="night/2", name="still on")
    await api.submit(group="night/2")
    page = await look(api, "/console/groups")
    assert page.all("a", href="/console/group?name=night/2")
    assert "1 failed" in page.text
    page = await look(api, "/console/group?name=night/2")
    assert page.text.index("broken") < page.text.index("still on")
    assert page.all("a", href=f"/console/tasks/{number}")
    assert "Retry 1 task" in page.text
    assert "Cancel 2 tasks" in page.text
    await look(api, "/console/group?name=nothing", status=404)


async def test_groups_are_paged_by_their_newest_task(own_api: Api) -> None:
    """Each once, also where groups were handed over in turn."""
    api = own_api
    names = [f"group {n}" for n in range(60)]
    await api.post(
        "/tasks", [{"command": "x", "group": name, "needs": ["nobody"]} for name in names * 2]
    )
    page = await look(api, "/console/groups")
    shown: list[str] = []
    for _ in range(4):
        shown += [each for each in page.text.splitlines() if each.startswith("group ")]
        found = [
            each.attributes["href"].partition("=")[2].replace("%20", " ")
            for each in page.all("a")
            if each.attributes["href"].startswith("/console/group?")
        ]
        names = [name for name in names if name not in found]
        if not (following := page.all("a", rel="next")):
            break
        page = await look(api, following[0].attributes["href"])
    assert names == []


async def test_agents_show_what_they_run_and_who_is_gone(own_api: Api) -> None:
    """An agent that says goodbye is not one that was lost."""
    api = own_api
    session = await api.open("os=linux", agent="farm-3", slots=2)
    number = await api.submit(needs=["os=linux"], name="on the farm")
    await api.claim(session, wait=5)
    page = await look(api, "/console/agents")
    assert "farm-3" in page.text
    assert "1 of 2" in page.text
    assert page.all("a", href=f"/console/tasks/{number}")
    assert "os=linux" in page.text
    for _ in range(3):
        await api.submit(needs=["os=linux"])
    await api.claim(session, slots=1, ahead=2)
    page = await look(api, "/console/agents")
    assert "2 of 2, 2 ahead" in page.text  # no slot runs two
    leaving = await api.open(agent="leaving")
    await api.beat(leaving, closing=True)
    page = await look(api, "/console/agents")
    assert "closed its session" in page.text


async def test_what_others_wrote_is_text_on_every_page(own_api: Api) -> None:
    """Names, groups, labels, commands, variables and agents are anybody's; a page is ours."""
    api = own_api
    label = "<i>&\"'>"
    fields: dict[str, Any] = {
        "name": _EVIL, "group": _EVIL, "env": {"<b>": _EVIL}, "cwd": f"/{_EVIL}",
        "command": f"echo {_EVIL}", "key": _EVIL,
    }  # fmt: skip
    session = await api.open(label, agent=_EVIL, version=_EVIL)
    number = await api.submit(needs=[label], **fields)
    (task,) = await api.claim(session, wait=5)
    pages = [
        "/", "/console/tasks", f"/console/tasks/{number}", "/console/groups", "/console/agents",
        "/console/group?name=" + "%3Cscript%3Ealert(1)%3C/script%3E%22'%3E%3Cimg%20src=x%20onerror="
        "alert(2)%3E%3C/td%3E%7B%7B%207%20*%207%20%7D%7D",
    ]  # fmt: skip

    async def check() -> None:
        for path in pages:
            page = await look(api, path)
            assert _EVIL in page.text, path

    await check()
    result = {"lease": task.lease, "reason": "spawn_error", "message": _EVIL}
    assert await api.report(session, [], [result]) == ["ok"]
    page = await look(api, f"/console/tasks?name={'%3Cx%22'}&group=%22%3E%3Cb%3E&agent='")
    assert page.all("input", name="name", value='<x"')
    page = await look(api, "/console/group?name=%3Cb%3Enone", status=404)
    assert "<b>none" in page.text


async def test_nobody_sees_buttons_that_he_may_not_press(start_api: StartApi) -> None:
    """A reader reads, a submitter cancels and retries, an admin drains."""
    async with start_api(**_TOKENS) as api:
        session = await api.open("wall", agent="wall-1")
        number = await api.submit(needs=["wall"], group="g")
        await api.claim(session, wait=5)
        places = ["/", "/console/tasks", f"/console/tasks/{number}", "/console/groups",
                  "/console/group?name=g", "/console/agents"]  # fmt: skip
        seen = {
            name: set().union(*[(await look(api, path, token=token)).actions for path in places])
            for name, token in _TOKENS.items()
            if name != "agent_token"
        }
        cancel = {f"/console/tasks/{number}/cancel", "/console/group/cancel"}
        assert seen == {
            "read_token": set(),
            "submit_token": cancel,
            "token": cancel | {"/console/agents/drain"},
        }


async def test_an_agents_token_sees_the_line_alone(start_api: StartApi) -> None:
    """It may not read tasks."""
    async with start_api(**_TOKENS) as api:
        headers = _BROWSER | {"Authorization": f"Bearer {_TOKENS['agent_token']}"}
        reply = await api.call("GET", "/", headers=headers)
        assert reply.text.startswith("distributed-worker: ")
        page = Page(await api.call("GET", "/console/tasks", headers=headers), 403)
        assert "read, submit or admin" in page.text


async def test_files_are_kept_for_ever_by_what_is_in_them(api: Api) -> None:
    """A page names them with their hash; they come packed where a browser takes that."""
    page = await look(api, "/")
    (script,) = page.all("script")
    assert script.attributes["src"] == f"{assets.FOLDER}/console.js"
    for url in assets.URLS:
        reply = await api.call("GET", url)
        assert reply.status == 200
        assert "immutable" in reply.headers["cache-control"]
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["content-type"].partition(";")[0] in {
            "text/css", "text/javascript", "image/svg+xml",
        }  # fmt: skip
        plain = await api.call("GET", url, headers={"Accept-Encoding": "identity"})
        assert plain.body == reply.body
        assert "content-encoding" not in plain.headers


@pytest.mark.parametrize("name", ["console.js", "log.js", "console.css"])
def test_the_package_has_its_files(name: str) -> None:
    """Installed from a wheel there is no folder of the clone beside it."""
    assert any(url.endswith(f"/{name}") for url in assets.URLS)
