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
async def task_hints(dw: Client) -> AsyncIterator[None]:
    """Around what asks for a task: where there is none, the error tells the newest number."""
    try:
        yield
    except NotFoundError as error:
        raise _better(error, await newest(dw)) from error


@asynccontextmanager
async def agent_hints(dw: Client, name: str) -> AsyncIterator[None]:
    """Around what asks for an agent: where there is none, the error names those that are near."""
    try:
        yield
    except NotFoundError as error:
        raise _better(error, await _agents(dw, name)) from error


async def newest(dw: Client) -> str:
    """Tell how far the numbers of tasks go; empty where that cannot be found out."""
    with suppress(DwError):
        page = await dw.tasks(limit=1)
        return f"the newest is {page.tasks[0].id}" if page.tasks else "there are none yet"
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
