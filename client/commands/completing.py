"""What a shell offers for a half typed word, as far as the server knows it.

A server that is slow or away offers nothing: a key press waits for nobody.
"""

import asyncio
import os
import shlex
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from click import Context, Parameter
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from client.client import Client

_WITHIN_S = 1.0
_MOST = 50

Ask = Callable[["Client"], Awaitable[list[tuple[str, str]]]]
"""Words, and what each is."""


def task_ids(ctx: Context, param: Parameter, incomplete: str) -> list[CompletionItem]:
    """Numbers of the newest tasks, with their states and names."""
    del ctx, param

    async def ask(dw: "Client") -> list[tuple[str, str]]:
        page = await dw.tasks(limit=_MOST)
        return [
            (str(task.id), f"{task.status}: {task.name or task.command}") for task in page.tasks
        ]

    return _offered(ask, incomplete)


def group_names(ctx: Context, param: Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of the newest groups that have the word in them."""
    del ctx, param

    async def ask(dw: "Client") -> list[tuple[str, str]]:
        page = await dw.groups(contains=incomplete or None, limit=_MOST)
        return [(group.name, f"{group.total:,} tasks") for group in page.groups]

    return _offered(ask, incomplete)


def agent_names(ctx: Context, param: Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of the agents that live."""
    del ctx, param

    async def ask(dw: "Client") -> list[tuple[str, str]]:
        return [(agent.agent, f"{agent.slots} slots") for agent in await dw.agents()]

    return _offered(ask, incomplete)


def _offered(ask: Ask, incomplete: str) -> list[CompletionItem]:
    # Imported here: click loads this with every command, and most command lines complete nothing.
    from client import render, settings  # noqa: PLC0415
    from client.client import Client  # noqa: PLC0415
    from client.errors import DwError  # noqa: PLC0415
    from client.transport import Patience  # noqa: PLC0415

    where = settings.load(os.environ)

    async def asked() -> list[tuple[str, str]]:
        async with (
            asyncio.timeout(_WITHIN_S),
            Client(where.url, where.token, ca_file=where.ca_file, patience=Patience(0, 0)) as dw,
        ):
            return await ask(dw)

    try:
        words = dict(asyncio.run(asked()))
    except (DwError, TimeoutError):
        return []
    # What a shell would take for more than a word is left out: strangers may name groups.
    return [
        CompletionItem(word, help=render.one_line(what))
        for word, what in words.items()
        if word.startswith(incomplete) and shlex.quote(word) == word
    ]
