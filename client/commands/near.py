"""Names and numbers that people may have meant."""

import difflib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import msgspec

from client import render
from client.client import Client
from client.errors import DwError, NotFoundError

_LOOKED_AT = 100  # newest groups
_NAMED = 3


@asynccontextmanager
async def group_hints(dw: Client, name: str) -> AsyncIterator[None]:
    """Around what asks for a group: where there is none, the error names those that are near."""
    try:
        yield
    except NotFoundError as error:
        raise _better(error, await _groups(dw, name)) from error


@asynccontextmanager
async def task_hints(dw: Client, *ids: int) -> AsyncIterator[None]:
    """Around what asks for tasks: where there are none, the error tells the newest number."""
    try:
        yield
    except NotFoundError as error:
        raise _better(error, await _newest(dw, max(ids))) from error


@asynccontextmanager
async def agent_hints(dw: Client, name: str) -> AsyncIterator[None]:
    """Around what asks for an agent: where there is none, the error names those that are near."""
    try:
        yield
    except NotFoundError as error:
        raise _better(error, await _agents(dw, name)) from error


@asynccontextmanager
async def token_hints(dw: Client, name: str) -> AsyncIterator[None]:
    """Around what asks for a token: where there is none, the error names those that are near."""
    try:
        yield
    except NotFoundError as error:
        raise _better(error, await _tokens(dw, name)) from error


async def _newest(dw: Client, wanted: int) -> str:
    """How far the numbers of tasks go, where that is the reason."""
    with suppress(DwError):
        page = await dw.tasks(limit=1)
        if not page.tasks:
            return "there are none yet"
        if page.tasks[0].id < wanted:
            return f"the newest is {page.tasks[0].id}"
    return ""


async def _groups(dw: Client, wanted: str) -> str:
    with suppress(DwError):
        names = [group.name for group in (await dw.groups(limit=_LOOKED_AT)).groups]
        if not names:
            return "there are no groups yet"
        near = near_names(wanted, names)
        if near:
            return f"did you mean {' or '.join(map(render.one_line, near))}?"
        return f"the newest group is {render.one_line(names[0])}"
    return ""


async def _agents(dw: Client, wanted: str) -> str:
    with suppress(DwError):
        names = sorted({agent.agent for agent in await dw.agents()})
        if near := near_names(wanted, names):
            return f"did you mean {' or '.join(map(render.one_line, near))}?"
        return "`dw agents` lists them" if names else "there are no agents"
    return ""


async def _tokens(dw: Client, wanted: str) -> str:
    with suppress(DwError):
        names = [token.name for token in await dw.tokens()]
        if near := near_names(wanted, names):
            return f"did you mean {' or '.join(map(render.one_line, near))}?"
        return "`dw token ls` lists them" if names else "none is in force"
    return ""


def near_names(wanted: str, names: list[str]) -> list[str]:
    """Up to three of them: those that have it in them, then those that are spelt alike."""
    inside = [name for name in names if wanted.lower() in name.lower()]
    alike = difflib.get_close_matches(wanted, names, _NAMED)
    return list(dict.fromkeys([*inside, *alike]))[:_NAMED]


def _better(error: NotFoundError, hint: str) -> NotFoundError:
    if not hint:
        return error
    problem = msgspec.structs.replace(error.problem, detail=f"{error}; {hint}")
    return NotFoundError(problem)
