"""Buttons: they do what the routes for programs do, and lead back."""

from urllib.parse import quote

import aiohttp
import pytest

from schema.audit import AuditPage
from schema.tasks import TaskPage
from tests.api.conftest import StartApi
from tests.api.server import Api, Reply
from tests.api.test_console_pages import failed

_HERE = {"Origin": "http://localhost"}
_HTML = {"Accept": "text/html"}
_TOKENS = {"token": "a secret of an admin", "read_token": "a secret to read with"}


async def _press(api: Api, path: str, **fields: str) -> Reply:
    return await api.call("POST", path, data=fields, headers=_HERE, allow_redirects=False)


def _led_to(reply: Reply) -> str:
    assert reply.status == 303, reply.body
    return reply.headers["location"]


async def test_cancel_and_retry_lead_back_to_where_they_were_pressed(own_api: Api) -> None:
    """And stand in the audit as the same actions."""
    api = own_api
    number = await api.submit()
    place = f"/console/tasks/{number}?attempt=1"
    assert _led_to(await _press(api, f"/console/tasks/{number}/cancel", back=place)) == place
    assert (await api.task(number)).status == "cancelled"
    reply = await _press(api, f"/console/tasks/{number}/retry", back="//evil", after_attempt="0")
    assert _led_to(reply) == "/"
    assert (await api.task(number)).status == "pending"
    entries = (await api.call("GET", "/audit")).as_(AuditPage).entries
    assert [(each.action, each.task) for each in entries[:2]] == [
        ("task retried", number), ("task cancelled", number),
    ]  # fmt: skip


async def test_a_retry_that_is_pressed_twice_is_once(own_api: Api) -> None:
    """It names the attempt that the page showed."""
    api = own_api
    number = await failed(api)
    for _ in range(2):
        reply = await _press(api, f"/console/tasks/{number}/retry", after_attempt="1")
        assert reply.status == 303
    assert (await api.task(number)).attempt == 1
    assert (await api.task(number)).status == "pending"
    reply = await _press(api, f"/console/tasks/{number}/retry", after_attempt="x" * 50)
    reply.problem(409, "only a finished task")


async def test_what_cannot_be_done_is_said_on_a_page(api: Api) -> None:
    """Without the script a button is a plain form."""
    reply = await api.call("POST", "/console/tasks/98765/cancel", headers=_HERE | _HTML)
    assert reply.status == 404
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert b"there is no task 98765" in reply.body
    reply = await api.call("POST", "/console/tasks/98765/cancel", headers=_HERE, data=b"x" * 20_000)
    reply.problem(413, "16384 bytes")


async def test_a_group_is_cancelled_as_a_whole(own_api: Api) -> None:
    """More tasks than one transaction has; those of others, and those that ended, are left."""
    api = own_api
    name = "a/b 'c'"
    body = {"command": "x", "group": name, "needs": ["nobody"]}
    await api.post("/tasks", [body] * 450)
    done = await failed(api, group=name)
    session, runs = await api.started(group=name)
    other = await api.submit(group="other")
    place = f"/console/group?name={quote(name, safe='')}"
    assert _led_to(await _press(api, "/console/group/cancel", name=name, back=place)) == place
    page = (await api.call("GET", f"/tasks?group={quote(name)}&limit=1000")).as_(TaskPage)
    statuses = [task.status for task in page.tasks]
    assert statuses.count("cancelled") == 450
    assert (await api.task(done)).status == "failed"
    assert (await api.task(other)).status == "pending"
    assert (await api.beat(session)).cancel == ((runs.id, 1),)


async def test_what_failed_of_a_group_runs_again(own_api: Api) -> None:
    """What succeeded or was cancelled does not."""
    api = own_api
    numbers = [await failed(api, group="again") for _ in range(3)]
    cancelled = await api.submit(group="again")
    await api.call("POST", f"/tasks/{cancelled}/cancel")
    assert _led_to(await _press(api, "/console/group/retry", name="again")) == "/"
    for number in numbers:
        assert (await api.task(number)).status == "pending"
    assert (await api.task(cancelled)).status == "cancelled"
    (await _press(api, "/console/group/retry", name="none")).problem(404, "'none'")


async def test_an_agent_is_drained(own_api: Api) -> None:
    """It hears of it in its beat."""
    api = own_api
    session = await api.open(agent="farm/3")
    assert _led_to(await _press(api, "/console/agents/drain", name="farm/3")) == "/"
    assert (await api.beat(session)).drain
    (await _press(api, "/console/agents/drain", name="none")).problem(404, "'none'")


@pytest.mark.parametrize("origin", ["http://evil", "null", "https://localhost:444"])
async def test_a_foreign_page_presses_no_button(own_api: Api, origin: str) -> None:
    """Also where no token required: each page that a browser visits can reach loopback."""
    api = own_api
    number = await api.submit()
    headers = {"Origin": origin}
    for path in (f"/console/tasks/{number}/cancel", f"/tasks/{number}/cancel"):
        reply = await api.call("POST", path, headers=headers, allow_redirects=False)
        reply.problem(403, "Origin")
    reply = await api.call("POST", "/tasks", data=b'{"command": "evil"}', headers=headers)
    reply.problem(403, "Origin")
    assert (await api.task(number)).status == "pending"
    assert (await api.call("GET", "/tasks", headers=headers)).status == 200


async def test_a_name_that_was_made_to_mean_loopback_opens_nothing(own_api: Api) -> None:
    """DNS rebinding: to a browser such a page is ours, so its `Origin` fits, and it may read."""
    api = own_api
    evil = {"Host": "evil.example:3000"}
    (await api.call("GET", "/tasks", headers=evil)).problem(403, "'evil.example:3000'")
    for path in ("/tasks", "//tasks"):
        reply = await api.call(
            "POST", path, data=b'{"command": "evil"}',
            headers=evil | {"Origin": "http://evil.example:3000"},
        )  # fmt: skip
        reply.problem(403, "TOKEN")
    for host in ("127.0.0.1:3000", "[::1]:3000", "localhost"):
        reply = await api.call("GET", "/tasks", headers={"Host": host})
        assert b'"tasks":[]' in reply.body


async def test_with_tokens_a_server_has_any_name(start_api: StartApi) -> None:
    """A page that has taken its name brings no token of ours."""
    async with start_api(**_TOKENS) as api:
        named = {"Host": "ci.example"}
        assert (await api.call("GET", "/tasks", headers=named)).status == 200
        (await api.call("GET", "/tasks", headers=named | {"Authorization": ""})).problem(401)


async def _enter(api: Api, token: str, following: str) -> Reply:
    reply = await api.call(
        "POST", "/login", data={"token": token, "next": following},
        headers=_HERE | _HTML | {"Authorization": ""}, allow_redirects=False,
    )  # fmt: skip
    api.http.cookie_jar.clear()
    return reply


async def test_a_browser_without_a_cookie_is_led_to_the_form_and_back(start_api: StartApi) -> None:
    """A program is told 401 still, and a wrong token is told as one."""
    async with start_api(**_TOKENS) as api:

        async def ask(path: str, **headers: str) -> Reply:
            # Without the session's own header: a browser sends none.
            async with aiohttp.ClientSession(
                connector=api.http.connector, connector_owner=False
            ) as http:
                return await Api(http).call("GET", path, headers=headers, allow_redirects=False)

        place = "/console/group?name=a/b&x=%22"
        reply = await ask(place, Accept="text/html")
        assert _led_to(reply) == "/login?next=%2Fconsole%2Fgroup%3Fname%3Da%2Fb%26x%3D%2522"
        assert _led_to(await ask("/", Accept="text/html")) == "/login?next=%2F"
        (await ask(place, Accept="*/*")).problem(401, "read, submit or admin")
        (await ask("/", Accept="*/*")).problem(401)
        (await ask("/tasks", Accept="text/html")).problem(401)
        (await ask(place, Accept="text/html", Authorization="Bearer wrong")).problem(401)
        form = await ask(_led_to(reply), Accept="text/html")
        assert b'name="next" value="/console/group?name=a/b&amp;x=%22"' in form.body
        assert "content-security-policy" in form.headers
        for token in _TOKENS.values():
            assert _led_to(await _enter(api, token, place)) == place


@pytest.mark.parametrize("place", ["//evil", "https://evil/", "/\\evil", "/tasks", "javascript:x"])
async def test_the_form_leads_to_no_other_site(start_api: StartApi, place: str) -> None:
    """Whoever sends a link to our form must not get people to a copy of it."""
    async with start_api(**_TOKENS) as api:
        form = await api.call("GET", f"/login?next={quote(place, safe='')}", headers=_HTML)
        assert b'name="next" value="/"' in form.body
        assert _led_to(await _enter(api, _TOKENS["token"], place)) == "/"


async def test_a_wrong_token_is_told_in_the_form(start_api: StartApi) -> None:
    """Where it was typed; the way back is kept."""
    async with start_api(**_TOKENS) as api:
        reply = await _enter(api, "wrong", "/console/tasks")
        assert reply.status == 401
        assert b"not valid" in reply.body
        assert b'name="next" value="/console/tasks"' in reply.body
        assert b"wrong</" not in reply.body


async def test_without_tokens_nobody_is_asked(own_api: Api) -> None:
    """The form leads on by itself."""
    reply = await own_api.call("GET", "/login?next=/console/agents", allow_redirects=False)
    assert _led_to(reply) == "/console/agents"


async def test_who_asks_is_told(start_api: StartApi) -> None:
    """A page that was opened from another site asks for it with its cookie."""
    async with start_api(**_TOKENS) as api:
        assert (await api.call("GET", "/console/me")).as_(dict[str, str]) == {
            "name": "TOKEN (environment)", "role": "admin",
        }  # fmt: skip
