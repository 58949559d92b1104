"""`dw token` and `dw audit` beside a real server."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.api.test_real_server import Running, started

_ROOT = Path(__file__).parents[2]
_ADMIN = "a-secret-of-some-length"


class _Ended(NamedTuple):
    code: int | None
    out: str
    err: str


@pytest.fixture
async def server(database_url: str, short_folder: Path) -> AsyncIterator[Running]:
    """Start one that asks for tokens."""
    async with started(database_url, short_folder, TOKEN=_ADMIN) as one:
        yield one


async def _dw(server: Running, *words: str, token: str = _ADMIN) -> _Ended:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "client.cli", *words, cwd=_ROOT,
        env=os.environ | {"API_URL": f"http://127.0.0.1:{server.port}", "TOKEN": token},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    return _Ended(process.returncode, out.decode(), err.decode())


async def test_a_token_from_its_making_to_its_end(server: Running) -> None:
    """On stdout there is the token alone, so that a script can take it; and only this once."""
    made = await _dw(server, "token", "new", "--role", "submit", "--name", "ci")
    assert (made.code, made.out.count("\n")) == (0, 1)
    token = made.out.strip()
    assert token.startswith("dw_")
    assert made.err == "dw: the token of ci, with the role submit; it is not shown again\n"
    assert await _dw(server, "submit", "--", "true", token=token) == (0, "task 1\n", "")
    refused = await _dw(server, "token", "ls", token=token)
    assert refused.code == 2
    assert "role admin; ci has the role submit" in refused.err
    again = await _dw(server, "token", "new", "--role", "submit", "--name", "ci")
    assert (again.code, again.out) == (2, "")
    assert "revoke it first" in again.err
    listed = (await _dw(server, "token", "ls")).out
    assert token not in listed
    assert [line.split()[:2] for line in listed.splitlines()] == [
        ["name", "role"],
        ["ci", "submit"],
    ]
    typo = await _dw(server, "token", "revoke", "cii")
    assert (typo.code, typo.err) == (2, "dw: there is no token 'cii'; did you mean ci?\n")
    assert await _dw(server, "token", "revoke", "ci") == (0, "ci is revoked\n", "")
    assert "ci" not in (await _dw(server, "token", "ls")).out
    assert "revoked" in (await _dw(server, "token", "ls", "--all")).out
    denied = await _dw(server, "ls", token=token)
    assert denied.code == 2
    assert "is TOKEN valid" in denied.err
    gone = await _dw(server, "token", "revoke", "nobody")
    assert (gone.code, gone.err) == (2, "dw: there is no token 'nobody'; none is in force\n")


async def test_json_is_for_programs(server: Running) -> None:
    """One object a line, as everywhere."""
    made = json.loads(
        (await _dw(server, "token", "new", "--role", "read", "--name", "r", "--json")).out
    )
    assert (made["name"], made["role"]) == ("r", "read")
    (listed,) = (await _dw(server, "token", "ls", "--json")).out.splitlines()
    assert json.loads(listed)["created_by"] == "TOKEN (environment)"
    revoked = json.loads((await _dw(server, "token", "revoke", "r", "--json")).out)
    assert revoked["revoked_at"] is not None


async def test_the_audit_is_a_table(server: Running) -> None:
    """When, who, what, about what; newest first."""
    await _dw(server, "submit", "--", "true")
    await _dw(server, "cancel", "1")
    await _dw(server, "token", "new", "--role", "agent", "--name", "wall-3")
    for _ in range(2):
        await _dw(server, "submit", "--group", "g", "--", "true")
    await _dw(server, "cancel", "--group", "g")
    await _dw(server, "retry", "--group", "g", "--cancelled")
    lines = (await _dw(server, "audit")).out.splitlines()
    assert [line.split(None, 4)[4].rstrip() for line in lines[1:]] == [
        "group retried    2 tasks of group g, the first is 2",
        "group cancelled  2 tasks of group g, the first is 2",
        "tasks submitted  task 3",
        "tasks submitted  task 2",
        "token made       wall-3 (agent)",
        "task cancelled   task 1",
        "tasks submitted  task 1",
    ]
    assert all("TOKEN (environment)" in line for line in lines[1:])
    assert len((await _dw(server, "audit", "-n", "2")).out.splitlines()) == 3
    (entry,) = (await _dw(server, "audit", "-n", "1", "--json")).out.splitlines()
    assert json.loads(entry)["about"] == "g"
