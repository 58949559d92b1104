"""Tokens in the table: made, shown once, found by every process, revoked everywhere."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from api.tokens import Tokens
from schema.claims import ClaimReply
from schema.sessions import SessionOpened
from schema.tokens import Role, Token, TokenMade
from tests.api.conftest import StartApi
from tests.api.server import Api, Reply, eventually, exited

_ADMIN = "a secret of some length"


async def _make(api: Api, name: str, role: Role, token: str = _ADMIN) -> str:
    body = {"name": name, "role": role}
    reply = await api.call("POST", "/tokens", json=body, headers=_bearer(token))
    return reply.as_(TokenMade).token


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def _revoke(api: Api, name: str) -> Token:
    return (await api.call("POST", f"/tokens/{name}/revoke")).as_(Token)


async def _as(api: Api, token: str, method: str, path: str, **options: Any) -> Reply:
    return await api.call(method, path, headers=_bearer(token), **options)


async def test_a_token_is_shown_once_and_kept_as_a_digest(
    start_api: StartApi, database: asyncpg.Connection
) -> None:
    """Whoever reads the database, or asks later, learns none."""
    async with start_api(token=_ADMIN) as api:
        made = await _make(api, "wall-3", "agent")
        assert made.startswith("dw_")
        assert len(made) >= 3 + 22  # 128 bits are 22 letters of base64
        assert made != await _make(api, "wall-4", "agent")
        listed = await api.call("GET", "/tokens")
        assert made.encode() not in listed.body
        tokens = {each.name: each for each in listed.as_(list[Token])}
        assert (tokens["wall-3"].role, tokens["wall-3"].created_by) == (
            "agent",
            "TOKEN (environment)",
        )
        for table in ("tokens", "audit"):
            assert made not in str(await database.fetch(f"SELECT t::text FROM {table} AS t"))


async def test_every_role_works_as_it_was_made(start_api: StartApi) -> None:
    """The table's tokens and the environment's are of the same four roles."""
    async with start_api(token=_ADMIN) as api:
        made: dict[Role, str] = {
            role: await _make(api, f"a-{role}", role)
            for role in ("admin", "submit", "read", "agent")
        }
        for role, (submits, lists, opens, manages) in {
            "admin": (201, 200, 201, 200),
            "submit": (201, 200, 403, 403),
            "read": (403, 200, 403, 403),
            "agent": (403, 403, 201, 403),
        }.items():
            token = made[role]  # type: ignore[index]  # its keys are the same four
            task = {"command": "true", "needs": ["nobody"]}
            assert (await _as(api, token, "POST", "/tasks", json=task)).status == submits
            assert (await _as(api, token, "GET", "/tasks")).status == lists
            opened = await _as(api, token, "POST", "/sessions", json={"agent": "a"})
            assert opened.status == opens
            assert (await _as(api, token, "GET", "/tokens")).status == manages


async def test_another_process_knows_a_new_token_at_once(start_api: StartApi) -> None:
    """Whoever was just handed a token must not be told that there is none."""
    async with start_api(token=_ADMIN) as one, start_api(token=_ADMIN) as other:
        for number in range(5):
            token = await _make(one, f"wall-{number}", "read")
            assert (await _as(other, token, "GET", "/tasks")).status == 200


async def test_a_revoked_token_ends_here_at_once_and_soon_elsewhere(start_api: StartApi) -> None:
    """Five seconds are promised; the notice takes milliseconds."""
    async with start_api(token=_ADMIN) as one, start_api(token=_ADMIN) as other:
        token = await _make(one, "stolen", "read")
        assert (await _as(other, token, "GET", "/tasks")).status == 200
        assert (await _revoke(one, "stolen")).revoked_at is not None
        (await _as(one, token, "GET", "/tasks")).problem(401)
        await eventually(
            lambda: _as(other, token, "GET", "/tasks"), lambda reply: reply.status == 401, 2
        )


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/tasks", b'{"command": "evil", "needs": ["nobody"]}'),
        ("/tokens", b'{"name": "another", "role": "admin"}'),
        ("/console/agents/drain", b"name=tester&back=/"),
    ],
)
async def test_what_began_before_a_revocation_does_nothing_after_it(
    start_api: StartApi, path: str, body: bytes
) -> None:
    """Whoever stole a token could hold a request open, and send its last byte when all know it."""
    async with start_api(token=_ADMIN) as api:
        token = await _make(api, "stolen", "admin")
        await api.open(agent="tester")
        begun, revoked = asyncio.Event(), asyncio.Event()

        async def slowly() -> AsyncIterator[bytes]:
            begun.set()  # it is asked for the body (100 Continue): the token was looked at
            await revoked.wait()
            yield body

        async with asyncio.timeout(15), asyncio.TaskGroup() as group:
            late = group.create_task(
                _as(api, token, "POST", path, data=slowly(), expect100=True, allow_redirects=False)
            )
            await begun.wait()
            await _revoke(api, "stolen")
            revoked.set()
        late.result().problem(401, "stolen was revoked while this request arrived")


async def test_a_revocation_is_noticed_without_a_notice(
    start_api: StartApi, database: asyncpg.Connection
) -> None:
    """A lost notice costs seconds, and not the lock on the door."""
    async with start_api(token=_ADMIN) as api:
        token = await _make(api, "stolen", "read")
        assert (await _as(api, token, "GET", "/tasks")).status == 200
        await database.execute("UPDATE tokens SET revoked_at = now()")  # another server's, unheard
        await eventually(
            lambda: _as(api, token, "GET", "/tasks"), lambda reply: reply.status == 401, 5
        )


async def test_what_a_revoked_token_has_parked_ends_empty(start_api: StartApi) -> None:
    """A thief's claim that already waits must not be given the next task, in any process."""
    async with start_api(token=_ADMIN) as one, start_api(token=_ADMIN) as other:
        token = await _make(one, "stolen", "agent")
        body = {"agent": "thief", "labels": ["stolen"], "slots": 4}
        opened = await _as(one, token, "POST", "/sessions", json=body)
        session = opened.as_(SessionOpened).session
        async with asyncio.TaskGroup() as group:
            ask = {"session": session, "slots": 1, "wait": 60}
            claim = group.create_task(_as(other, token, "POST", "/claims", json=ask))
            beat = group.create_task(
                _as(other, token, "POST", "/beats", json={"session": session, "wait": 20})
            )

            async def waiting() -> bytes:
                return (await other.call("GET", "/metrics")).body

            await eventually(waiting, lambda text: b'dw_waiting{what="claims"} 1' in text)
            await _revoke(one, "stolen")
            await eventually(_done(claim), bool, 3)
            await eventually(_done(beat), bool, 3)
        assert claim.result().as_(ClaimReply).tasks == ()
        beat.result().problem(410)
        number = await one.submit(needs=["stolen"])
        assert (await one.task(number)).status == "pending"


def _done(task: "asyncio.Task[Reply]") -> Any:
    async def look() -> bool:
        return task.done()

    return look


async def test_tasks_of_a_revoked_agent_run_again(start_api: StartApi) -> None:
    """Nobody can report them any more: waiting for the lease would only lose time."""
    async with start_api(token=_ADMIN, reaper_s=0.1) as api:
        token = await _make(api, "stolen", "agent")
        number = await api.submit(needs=["revoked"])
        body = {"agent": "thief", "labels": ["revoked"], "slots": 4}
        opened = (await _as(api, token, "POST", "/sessions", json=body)).as_(SessionOpened)
        ask = {"session": opened.session, "slots": 1}
        (await _as(api, token, "POST", "/claims", json=ask)).as_(ClaimReply)
        await _revoke(api, "stolen")
        session = await api.open("revoked")
        (task,) = await api.claim(session, wait=10)
        assert (task.id, task.attempt) == (number, 2)
        assert await api.report(session, [], [exited(task.lease)]) == ["ok"]


async def test_a_name_lives_once(start_api: StartApi) -> None:
    """The audit names people by it. A revoked one may be given again."""
    async with start_api(token=_ADMIN) as api:
        first = await _make(api, "wall-3", "agent")
        again = await api.post("/tokens", {"name": "wall-3", "role": "read"})
        again.problem(409, "wall-3", "revoke it first")
        await _revoke(api, "wall-3")
        revoked_at = (await _revoke(api, "wall-3")).revoked_at  # asked again: nothing changes
        second = await _make(api, "wall-3", "agent")
        assert second != first
        everything = (await api.call("GET", "/tokens?revoked=true")).as_(list[Token])
        assert [(each.name, each.revoked_at) for each in everything] == [
            ("wall-3", None),
            ("wall-3", revoked_at),
        ]
        (await api.call("POST", "/tokens/nobody/revoke")).problem(404, "nobody")
        (await api.call("POST", "/tokens/a%00b/revoke")).problem(404)


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"name": "x"}, "role"),
        ({"role": "admin"}, "name"),
        ({"name": "x", "role": "root"}, "$.role"),
        ({"name": "", "role": "read"}, "$.name"),
        ({"name": "a/b", "role": "read"}, "$.name"),
        ({"name": "TOKEN (environment)", "role": "read"}, "$.name"),
        ({"name": "x\n", "role": "read"}, "$.name"),
        ({"name": "x" * 101, "role": "read"}, "$.name"),
        ({"name": "x", "role": "read", "rolle": 1}, "rolle"),
    ],
)
async def test_a_bad_token_is_named(api: Api, body: dict[str, Any], word: str) -> None:
    """Names stand in paths and in the audit."""
    (await api.post("/tokens", body)).problem(400, word)


async def test_the_first_token_is_an_admins_and_closes_the_door(start_api: StartApi) -> None:
    """On loopback without tokens anybody is admin, until there is one; no token locks all out."""
    async with start_api() as one, start_api() as other:
        refused = await one.post("/tokens", {"name": "wall-3", "role": "agent"})
        refused.problem(409, "the first token must be an admin's")
        admin = await _make(one, "alice", "admin", token="")
        (await one.call("GET", "/tasks")).problem(401)
        await eventually(lambda: other.call("GET", "/tasks"), lambda reply: reply.status == 401, 2)
        await _make(one, "wall-3", "agent", token=admin)
        last = await _as(one, admin, "POST", "/tokens/alice/revoke")
        last.problem(409, "last admin")
        bob = await _make(other, "bob", "admin", token=admin)
        assert (await _as(one, bob, "POST", "/tokens/alice/revoke")).status == 200
        (await _as(one, admin, "GET", "/tasks")).problem(401)
    async with start_api() as again:
        (await again.call("GET", "/tasks")).problem(401)
        assert (await _as(again, bob, "GET", "/tasks")).status == 200


async def test_guessing_costs_the_database_next_to_nothing(
    start_api: StartApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hundreds of unknown tokens share their looks; what is no token of ours asks for none."""
    looks = 0
    refresh = Tokens.refresh

    async def counted(self: Tokens) -> None:
        nonlocal looks
        looks += 1
        await refresh(self)

    async with start_api(token=_ADMIN) as api:
        monkeypatch.setattr(Tokens, "refresh", counted)

        async def guess(first: int) -> set[int]:
            tokens = [f"dw_{'x' * 28}{number:04}" for number in range(first, first + 5)]
            return {(await _as(api, token, "GET", "/tasks")).status for token in tokens}

        loop = asyncio.get_running_loop()
        begun = loop.time()
        async with asyncio.TaskGroup() as group:
            guessed = [group.create_task(guess(first)) for first in range(0, 500, 5)]
        took_s = loop.time() - begun
        assert [each.result() for each in guessed] == [{401}] * 100
        assert 5 <= looks <= 3 + took_s * 10 + took_s / 3
        before, begun = looks, loop.time()
        for _ in range(100):
            assert (await _as(api, "guess", "GET", "/tasks")).status == 401
        assert looks - before <= 1 + (loop.time() - begun) / 3


async def test_use_is_written_down(start_api: StartApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """An admin sees which tokens nobody needs any more."""
    monkeypatch.setattr("api.tokens._NOTE_USED_S", 0.05)
    async with start_api(token=_ADMIN) as api:
        token = await _make(api, "used", "read")
        await _make(api, "unused", "read")
        assert (await _as(api, token, "GET", "/tasks")).status == 200

        async def used() -> dict[str, bool]:
            listed = (await api.call("GET", "/tokens")).as_(list[Token])
            return {each.name: each.used_at is not None for each in listed}

        await eventually(used, lambda found: found["used"])
        assert not (await used())["unused"]
