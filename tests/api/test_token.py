"""Roles and routes: who may do what, on every route there is."""

import itertools
from pathlib import Path
from typing import Any, get_args

import pytest
from litestar import Litestar, get
from litestar.routes import HTTPRoute

from api import access
from api.app import create_app
from api.console import assets
from api.settings import Settings
from schema.tokens import Role
from tests.api.conftest import StartApi
from tests.api.server import MSGPACK, Api, serving

_TOKENS: dict[Role, str] = {
    "admin": "a secret of an admin",
    "submit": "a secret to submit with",
    "read": "a secret to read with",
    "agent": "a secret of agents",
}
_GIVEN: dict[str, Any] = {
    "token": _TOKENS["admin"],
    "submit_token": _TOKENS["submit"],
    "read_token": _TOKENS["read"],
    "agent_token": _TOKENS["agent"],
}
_EVERYONE = frozenset(get_args(Role))
_OPEN = frozenset({*_EVERYONE, None})
_READ = frozenset({"read", "submit", "admin"})
_SUBMIT = frozenset({"submit", "admin"})
_AGENT = frozenset({"agent", "admin"})
_ADMIN = frozenset({"admin"})

# (method, path): who may; and what a request with no body worth the name is answered then.
_TABLE: dict[tuple[str, str], tuple[frozenset[str | None], int]] = {
    ("GET", "/"): (_EVERYONE, 200),
    ("GET", "/health/live"): (_OPEN, 200),
    ("GET", "/health/ready"): (_OPEN, 200),
    ("GET", "/metrics"): (_READ, 200),
    ("GET", "/schema"): (_READ, 200),
    ("GET", "/schema/{path}"): (_READ, 404),
    ("GET", "/schema/openapi.json"): (_READ, 200),
    ("POST", "/tasks"): (_SUBMIT, 400),
    ("GET", "/tasks"): (_READ, 200),
    ("GET", "/tasks/{task_id}"): (_READ, 404),
    ("GET", "/tasks/{task_id}/logs"): (_READ, 404),
    ("GET", "/tasks/{task_id}/logs.gz"): (_READ, 400),
    ("GET", "/tasks/{task_id}/logs/lines"): (_READ, 404),
    ("GET", "/tasks/{task_id}/logs/live"): (_READ, 404),
    ("GET", "/tasks/{task_id}/explain"): (_READ, 404),
    ("POST", "/tasks/{task_id}/cancel"): (_SUBMIT, 404),
    ("POST", "/tasks/{task_id}/retry"): (_SUBMIT, 404),
    ("GET", "/queue"): (_READ, 200),
    ("GET", "/groups"): (_READ, 200),
    ("GET", "/groups/{name}"): (_READ, 404),
    ("POST", "/groups/{name}/cancel"): (_SUBMIT, 404),
    ("POST", "/groups/{name}/retry"): (_SUBMIT, 404),
    ("GET", "/groups/{name}/logs"): (_READ, 404),
    ("GET", "/groups/{name}/logs/live"): (_READ, 404),
    ("GET", "/agents"): (_READ, 200),
    ("POST", "/agents/{name}/drain"): (_ADMIN, 404),
    ("POST", "/sessions"): (_AGENT, 400),
    ("POST", "/claims"): (_AGENT, 400),
    ("POST", "/beats"): (_AGENT, 400),
    ("POST", "/reports"): (_AGENT, 415),
    ("POST", "/tasks/pull"): (_AGENT, 200),
    ("POST", "/tasks/{task_id}/logs"): (_AGENT, 400),
    ("PATCH", "/tasks/{task_id}/status"): (_AGENT, 400),
    ("POST", "/tokens"): (_ADMIN, 400),
    ("GET", "/tokens"): (_ADMIN, 200),
    ("POST", "/tokens/{name}/revoke"): (_ADMIN, 404),
    ("GET", "/audit"): (_ADMIN, 200),
    ("GET", "/login"): (_OPEN, 200),
    ("POST", "/login"): (_OPEN, 401),
    ("POST", "/logout"): (_OPEN, 303),
    ("GET", "/console/me"): (_READ, 200),
    ("GET", "/console/tasks"): (_READ, 200),
    ("GET", "/console/tasks/{task_id}"): (_READ, 404),
    ("GET", "/console/tasks/{task_id}/rows"): (_READ, 404),
    ("GET", "/console/tasks/{task_id}/find"): (_READ, 400),
    ("GET", "/console/tasks/{task_id}/live"): (_READ, 404),
    ("GET", "/console/groups"): (_READ, 200),
    ("GET", "/console/group"): (_READ, 400),
    ("GET", "/console/agents"): (_READ, 200),
    ("POST", "/console/tasks/{task_id}/cancel"): (_SUBMIT, 404),
    ("POST", "/console/tasks/{task_id}/retry"): (_SUBMIT, 404),
    ("POST", "/console/group/cancel"): (_SUBMIT, 404),
    ("POST", "/console/group/retry"): (_SUBMIT, 404),
    ("POST", "/console/agents/drain"): (_ADMIN, 404),
    **dict.fromkeys((("GET", url) for url in assets.URLS), (_OPEN, 200)),
}
_COMPATIBLE = {
    ("POST", "/tasks/pull"),
    ("POST", "/tasks/{task_id}/logs"),
    ("PATCH", "/tasks/{task_id}/status"),
}


def _routes() -> set[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    for route in create_app(Settings()).app.routes:
        assert isinstance(route, HTTPRoute)
        path = "/".join(
            f"{{{part.strip('{}').partition(':')[0]}}}" if "{" in part else part
            for part in route.path.split("/")
        )
        found |= {(method, path) for method in route.methods}
    return found


def _filled(path: str) -> str:
    return path.replace("{task_id}", "98765").replace("{name}", "nobody").replace("{path}", "x")


async def _ask(api: Api, method: str, path: str, **headers: str) -> tuple[int, bytes]:
    reply = await api.call(
        method, _filled(path), headers={"Authorization": ""} | headers, allow_redirects=False
    )
    if reply.status >= 400 and "schema" not in path:  # /schema of nothing is litestar's page
        reply.problem(reply.status)
    return reply.status, reply.body


def test_the_table_has_every_route() -> None:
    """A new route has to declare here, too, who may call it."""
    assert {each for each in _routes() if each[0] != "OPTIONS"} == set(_TABLE)


async def test_a_route_that_declares_no_access_is_refused() -> None:
    """Forgotten, it would serve everybody or nobody: the server does not even start."""

    @get("/forgotten")
    async def forgotten() -> None: ...

    with pytest.raises(RuntimeError, match="/forgotten does not declare who may call it"):
        access.open_routes(Litestar([forgotten], openapi_config=None).routes)


async def test_each_role_reaches_its_routes_and_no_other(start_api: StartApi) -> None:
    """Every route by every role, by a stranger, and by nobody: 401, 403, or what the route says."""
    wrong: list[tuple[object, ...]] = []
    async with start_api(**_GIVEN) as api:
        for (method, path), (roles, good) in _TABLE.items():
            for role, token in _TOKENS.items():
                status, body = await _ask(api, method, path, Authorization=f"Bearer {token}")
                if status != (good if role in roles else 403):
                    wrong.append((method, path, role, status, body))
                if status == 403 and not _names_a_role(body, roles):
                    wrong.append((method, path, role, "names no role", body))
            for stranger in ("", "Bearer ", "Bearer nobody's secret at all", _TOKENS["admin"]):
                status, body = await _ask(api, method, path, Authorization=stranger)
                if status != (good if None in roles else 401):
                    wrong.append((method, path, stranger, status, body))
                if status == 401 and None not in roles and not _names_a_role(body, roles):
                    wrong.append((method, path, stranger, "names no role", body))
    assert wrong == []


def _names_a_role(body: bytes, roles: frozenset[str | None]) -> bool:
    return all(str(role).encode() in body for role in roles)


async def test_options_and_unknown_paths_ask_for_a_token_too(start_api: StartApi) -> None:
    """Nobody maps a server that he has no token for; with one, a typo is a 404 and no 403."""
    async with start_api(**_GIVEN) as api:
        for method, path in itertools.chain(_routes(), [("GET", "/nowhere"), ("PUT", "/tasks")]):
            if (method, path) in _TABLE:
                continue
            assert (await _ask(api, method, path))[0] == 401, (method, path)
            good = {"GET": 404, "PUT": 405, "OPTIONS": 204}[method]
            for token in _TOKENS.values():
                status, _ = await _ask(api, method, path, Authorization=f"Bearer {token}")
                assert status == good, (method, path)


async def test_an_unusual_spelling_of_a_path_opens_nothing(start_api: StartApi) -> None:
    """Whatever litestar takes for a route is checked as that route."""
    async with start_api(**_GIVEN) as api:
        for path in ("//tasks", "/tasks/", "///tasks//", "/tasks%2F", "/%74asks", "/./tasks"):
            for token, statuses in ((_TOKENS["agent"], {403, 404}), ("", {401})):
                status, body = await _ask(api, "GET", path, Authorization=f"Bearer {token}")
                assert status in statuses, (path, status, body)
        status, _ = await _ask(api, "POST", "//claims", Authorization=f"Bearer {_TOKENS['read']}")
        assert status == 403


async def test_an_agent_of_old_may_have_its_token_in_the_path(start_api: StartApi) -> None:
    """It can be given a base URL and nothing else; its routes alone, and its role alone."""
    async with start_api(**_GIVEN) as api:
        for (method, path), (roles, good) in _TABLE.items():
            if path == "/" or None in roles:
                continue
            for role, token in _TOKENS.items():
                prefixed = f"/t/{token}{path}"
                status, body = await _ask(api, method, prefixed)
                passes = role == "agent" and (method, path) in _COMPATIBLE
                assert status == (good if passes else 403), (method, path, role, body)
                assert token.encode() not in body
            status, body = await _ask(api, method, f"/t/nobody's secret{path}")
            assert status == 401, (method, path)
            assert b"secret" not in body
        for bare in ("/t/", "/t//", "/t", "//t//", "/t/t/t/"):
            assert (await _ask(api, "GET", bare))[0] == 401
        base = f"t/{_TOKENS['agent']}"
        for bare in (f"/{base}", f"/{base}/", f"//{base}", f"/{base}//", f"/t/x/{base}/"):
            assert (await _ask(api, "GET", bare))[0] == 200, bare
        assert (await _ask(api, "POST", f"//{base}//tasks//pull"))[0] == 200
        for odd in ("%ff", "%ED%A0%80", "%00", "%2F", "t/" * 10_000, "/" * 10_000):
            assert (await _ask(api, "GET", f"/t/{odd}/tasks"))[0] in {401, 414}, odd


async def test_an_agent_of_old_works_through_its_path(start_api: StartApi) -> None:
    """Pull, log, status: as with the original server behind that base URL."""
    async with start_api(**_GIVEN) as api:
        number = await api.submit(command="echo old", needs=[])
        base = f"/t/{_TOKENS['agent']}"
        none = {"Authorization": ""}
        pulled = await api.call("POST", f"{base}/tasks/pull", headers=none)
        assert pulled.as_(dict[str, Any])["id"] == number
        logs = {"kind": "stdout", "index": 0, "content": "old"}
        reply = await api.call("POST", f"{base}/tasks/{number}/logs", json=logs, headers=none)
        assert reply.status == 200
        ended = {"status": "succeeded"}
        reply = await api.call("PATCH", f"{base}/tasks/{number}/status", json=ended, headers=none)
        assert reply.status == 200
        assert (await api.task(number)).status == "succeeded"
        assert await api.log(number) == "old\n"


async def test_an_access_log_has_no_token(
    database_url: str, short_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Ours is off; whoever turns it on, as whoever reads it, must not learn tokens by it."""
    settings = Settings(database_url=database_url, pool_size=4, **_GIVEN)
    async with serving(short_folder, settings, log_access=True) as api:
        for path in ("/tasks/pull", "/tasks/98765/logs", "/nowhere", "/t/x/tasks/pull"):
            for prefix in (f"/t/{_TOKENS['agent']}", "/t/no%20secret", f"//t/{_TOKENS['read']}/"):
                await api.call("POST", prefix + path, headers={"Authorization": ""})
    written = capfd.readouterr().out
    assert written.count("POST /tasks/pull") >= 3, written
    assert "/nowhere" in written
    assert not [each for each in (*_TOKENS.values(), "no secret", "no%20secret") if each in written]


async def test_without_tokens_a_path_with_one_is_served(own_api: Api) -> None:
    """A legacy agent that was set up for a server with tokens meets one without."""
    reply = await own_api.call("POST", "/t/whatever/tasks/pull")
    assert (reply.status, reply.body) == (200, b"null")


async def test_a_session_belongs_to_the_token_that_opened_it(start_api: StartApi) -> None:
    """Whoever learns of a session id can do nothing with it, even with a token of an agent."""
    async with start_api(**_GIVEN) as api:
        session, task = await api.started()
        thief = {"Authorization": f"Bearer {_TOKENS['agent']}", "Content-Type": "application/json"}
        for path, more in (
            ("/claims", {"slots": 1}),
            ("/beats", {}),
            ("/beats", {"closing": True}),
            ("/reports", {"results": [{"lease": task.lease, "reason": "timeout"}]}),
        ):
            body = {"session": session} | more
            reply = await api.call("POST", path, json=body, headers=thief)
            reply.problem(403, "another token opened this session")
        opened = await api.call(
            "POST", "/sessions", json={"agent": "thief", "replaces": session}, headers=thief
        )
        assert opened.status == 201
        assert (await api.beat(session, held=[[task.id, 1]])).cancel == ()
        assert await api.report(session, [], [{"lease": task.lease, "reason": "timeout"}]) == ["ok"]


async def test_a_session_from_before_the_tokens_goes_on(
    start_api: StartApi, database_url: str
) -> None:
    """TOKEN is set, the server started again: agents that have it go on with what they run."""
    async with start_api() as api:
        session, task = await api.started()
    async with start_api(**_GIVEN) as api:
        assert (await api.beat(session, held=[[task.id, 1]])).cancel == ()
        assert await api.report(session, [], [{"lease": task.lease, "reason": "timeout"}]) == ["ok"]


async def test_a_body_is_not_read_before_the_token(start_api: StartApi) -> None:
    """A stranger's 15 MB must not take the room of those who have tokens."""
    async with start_api(**_GIVEN, max_bodies_bytes=1_000_000) as api:
        big = b"x" * 15_000_000
        for token, status in (("", 401), (_TOKENS["read"], 403)):
            for path in ("/tasks", "/reports"):
                reply = await api.call(
                    "POST", path, data=big,
                    headers={"Authorization": f"Bearer {token}", "Content-Type": MSGPACK},
                )  # fmt: skip
                reply.problem(status)
