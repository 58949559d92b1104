"""Sessions: the lives of agents."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Literal

from msgspec import Struct

from api.sql import load
from api.store import Connection
from api.store.tasks import shown
from schema.sessions import Agent, SessionOpen

_SQL = load("sessions")


class SessionRow(Struct, frozen=True):
    """A session as the database knows it."""

    id: int
    labels: tuple[str, ...]
    age_s: float
    """Since the last committed renewal."""
    ended: bool
    token: str | None
    """Name of the token that opened it; None where none was asked for."""


def _digest(session: str) -> bytes:
    return hashlib.sha256(session.encode()).digest()


async def open_session(
    connection: Connection, session: str, request: SessionOpen, token: str | None
) -> int:
    """Store a new session under its secret id; returns its row number."""
    return int(
        await connection.fetchval(
            _SQL["open_session"],
            _digest(session),
            request.agent,
            request.labels,
            request.slots,
            request.version,
            token,
        )
    )


async def find_many(connection: Connection, sessions: Sequence[str]) -> list[SessionRow | None]:
    """Look sessions up by their secret ids, in their order."""
    digests = [_digest(session) for session in sessions]
    rows = {
        row[0]: SessionRow(row[1], tuple(row[2]), *tuple(row)[3:])
        for row in await connection.fetch(_SQL["find_many"], digests)
    }
    return [rows.get(digest) for digest in digests]


async def renew_many(connection: Connection, sessions: Iterable[int]) -> dict[int, bool]:
    """Renew sessions; returns those that still live, and whether each shall drain."""
    rows = await connection.fetch(_SQL["renew_many"], sorted(sessions))
    return {row["id"]: row["drain"] for row in rows}


async def drain_agent(connection: Connection, agent: str, who: str) -> list[int]:
    """Ask all live sessions of that name to drain; returns their numbers."""
    return [row[0] for row in await connection.fetch(_SQL["drain_agent"], agent, who)]


async def end_session(
    connection: Connection, session: int, reason: Literal["closed", "replaced"]
) -> None:
    """End a session for good. What it holds is for the reaper."""
    await connection.execute(_SQL["end_session"], session, reason)


async def end_lost(connection: Connection, lease_s: float) -> list[tuple[int, str]]:
    """End all sessions that were silent for longer; returns their numbers and agents."""
    return [(row[0], row[1]) for row in await connection.fetch(_SQL["end_lost"], lease_s)]


async def list_sessions(
    connection: Connection, *, ended: bool, name: str | None = None
) -> list[Agent]:
    """At most 1,000, newest first; of all names if None."""
    rows = await connection.fetch(_SQL["list_sessions"], ended, name)
    return [
        Agent(
            agent=row["agent"],
            labels=shown(row["labels"]),
            slots=row["slots"],
            running=row["running"],
            version=row["version"],
            alive=row["alive"],
            drain=row["drain"],
            opened_at=row["opened_at"],
            seen_at=row["seen_at"],
            ended_at=row["ended_at"],
        )
        for row in rows
    ]
