"""A browser's way in: a form gives a cookie, and only our own pages may use it."""

import time
from http.cookies import Morsel, SimpleCookie

import pytest

from api import cookies
from schema.audit import AuditPage
from schema.tokens import TokenMade
from tests.api.conftest import StartApi
from tests.api.server import Api, Reply, eventually

_ADMIN = "a secret of some length"
_READ = "a secret to read with"
_AGENT = "a secret of an agent"
_TASK = {"command": "true", "needs": ["nobody"]}
_NO_TOKEN = {"Authorization": ""}


async def _login(api: Api, token: str, **headers: str) -> Reply:
    reply = await api.call(
        "POST", "/login", data={"token": token}, headers=_NO_TOKEN | headers,
        allow_redirects=False,
    )  # fmt: skip
    api.http.cookie_jar.clear()  # each test sends what it means to send
    return reply


def _cookie(reply: Reply) -> "Morsel[str]":
    assert reply.status == 303, reply.body
    assert reply.headers["location"] == "/"
    return SimpleCookie(reply.headers["set-cookie"])[cookies.NAME]


async def _ask(
    api: Api, cookie: str, method: str, path: str, body: object = None, **headers: str
) -> Reply:
    sent = _NO_TOKEN | {"Cookie": f"{cookies.NAME}={cookie}"} | headers
    return await api.call(method, path, headers=sent, json=body)


async def test_a_cookie_lets_its_tokens_role_in(start_api: StartApi) -> None:
    """No script can read it, no other site can send it, and the token is not in it."""
    async with start_api(token=_ADMIN, read_token=_READ) as api:
        for token, manages in ((_ADMIN, 200), (_READ, 403)):
            cookie = _cookie(await _login(api, token))
            assert cookie["httponly"]
            assert cookie["samesite"] == "Strict"
            assert cookie["path"] == "/"
            assert int(cookie["max-age"]) == cookies.LIFE_S
            assert not cookie["secure"]
            assert token not in cookie.value
            assert (await _ask(api, cookie.value, "GET", "/tasks")).status == 200
            assert (await _ask(api, cookie.value, "GET", "/tokens")).status == manages
            forged = cookie.value[:-1] + ("x" if cookie.value[-1] != "x" else "y")
            (await _ask(api, forged, "GET", "/tasks")).problem(401)


async def test_a_login_is_in_the_audit(start_api: StartApi) -> None:
    """And what is done with the cookie bears the token's name."""
    async with start_api(token=_ADMIN) as api:
        cookie = _cookie(await _login(api, _ADMIN)).value
        here = {"Origin": "http://localhost"}
        assert (await _ask(api, cookie, "POST", "/tasks", _TASK, **here)).status == 201
        entries = (await api.call("GET", "/audit")).as_(AuditPage).entries
        assert [(each.who, each.action) for each in entries] == [
            ("TOKEN (environment)", "tasks submitted"),
            ("TOKEN (environment)", "logged in"),
        ]


async def test_behind_tls_a_cookie_is_for_tls_only(start_api: StartApi) -> None:
    """A proxy says that the browser speaks TLS to it."""
    async with start_api(token=_ADMIN) as api:
        reply = await _login(api, _ADMIN, **{"X-Forwarded-Proto": "https"})
        assert _cookie(reply)["secure"]


@pytest.mark.parametrize("origin", ["http://evil", "null", "https://localhost:444", ""])
async def test_a_cookie_changes_nothing_from_elsewhere(start_api: StartApi, origin: str) -> None:
    """A page of a stranger makes a browser send a form; it must not hand over tasks."""
    async with start_api(token=_ADMIN) as api:
        cookie = _cookie(await _login(api, _ADMIN)).value
        headers = {"Origin": origin} if origin else {}
        for path, body in (("/tasks", _TASK), ("/tokens", {"name": "x", "role": "admin"})):
            reply = await _ask(api, cookie, "POST", path, body, **headers)
            reply.problem(403, "Origin")
        assert (await _ask(api, cookie, "GET", "/tasks", **headers)).status == 200
        tasks = await api.call("GET", "/tasks")
        assert b'"tasks":[]' in tasks.body


async def test_a_token_in_the_header_needs_no_origin(start_api: StartApi) -> None:
    """It comes from a program, which a foreign page cannot make send one."""
    async with start_api(token=_ADMIN) as api:
        cookie = _cookie(await _login(api, _ADMIN)).value
        headers = {
            "Authorization": f"Bearer {_ADMIN}", "Cookie": f"{cookies.NAME}={cookie}",
            "Origin": "http://evil",
        }  # fmt: skip
        assert (await api.call("POST", "/tasks", json=_TASK, headers=headers)).status == 201


async def test_a_foreign_form_logs_nobody_in_or_out(start_api: StartApi) -> None:
    """Logged in as somebody else, a person would hand his tasks to them."""
    async with start_api(token=_ADMIN) as api:
        (await _login(api, _ADMIN, Origin="http://evil")).problem(403, "another site")
        out = await api.call(
            "POST", "/logout", headers={"Origin": "http://evil"}, allow_redirects=False
        )
        out.problem(403, "another site")
        assert (await _login(api, _ADMIN, Origin="http://localhost")).status == 303


async def test_logging_out_takes_the_cookie_back(start_api: StartApi) -> None:
    """The browser forgets it."""
    async with start_api(token=_ADMIN) as api:
        out = await api.call(
            "POST", "/logout", headers={"Origin": "http://localhost"}, allow_redirects=False
        )
        cookie = _cookie(out)
        assert (cookie.value, cookie["max-age"]) == ("", "0")


async def test_a_wrong_form_is_told_so(start_api: StartApi) -> None:
    """In words; and an agent's token is not for people."""
    async with start_api(token=_ADMIN, agent_token=_AGENT) as api:
        (await _login(api, "nobody's secret")).problem(401, "`token`")
        (await _login(api, "dw_nobody's secret")).problem(401, "`token`")
        (await _login(api, "")).problem(401, "`token`")
        (await _login(api, "x" * 5000)).problem(413, "4096 bytes")
        (await _login(api, _AGENT)).problem(403, "read, submit or admin")
        for body in (b"", b"\xff\xfe", b"token", b"=&=&", b"token=%ff"):
            reply = await api.call("POST", "/login", data=body, allow_redirects=False)
            reply.problem(401, "`token`")


async def test_a_cookie_ends_with_its_token(start_api: StartApi) -> None:
    """Revoked, or changed in the environment; in every process, also one that never saw it."""
    async with start_api(token=_ADMIN) as one:
        made = await one.post("/tokens", {"name": "alice", "role": "admin"})
        alice = _cookie(await _login(one, made.as_(TokenMade).token)).value
        environment = _cookie(await _login(one, _ADMIN)).value
        async with start_api(token=_ADMIN) as other:
            assert (await _ask(other, alice, "GET", "/tasks")).status == 200
            assert (await one.call("POST", "/tokens/alice/revoke")).status == 200
            (await _ask(one, alice, "GET", "/tasks")).problem(401)
            await eventually(
                lambda: _ask(other, alice, "GET", "/tasks"), lambda reply: reply.status == 401, 2
            )
    async with start_api(token="another one in the end") as api:
        (await _ask(api, environment, "GET", "/tasks")).problem(401)


async def test_a_page_takes_no_longer_for_odd_cookies(start_api: StartApi) -> None:
    """Pages look for the cookie too; by `http.cookies` this one took four seconds."""
    async with start_api(token=_ADMIN) as api:
        cookie = _cookie(await _login(api, _ADMIN)).value
        odd = 'other="' + "\\" * 40_000 + f'"; {cookies.NAME}={cookie}'
        began = time.thread_time()
        headers = _NO_TOKEN | {"Accept": "text/html", "Cookie": odd}
        reply = await api.call("GET", "/console/tasks", headers=headers)
        assert reply.status == 200
        assert b'action="/logout"' in reply.body
        assert time.thread_time() - began < 1
