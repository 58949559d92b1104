"""Results: how attempts end, and what becomes of their tasks."""

from collections.abc import Iterable, Sequence
from datetime import date
from typing import Literal

import msgspec
from msgspec import Struct

from api.sql import load
from api.store import Connection
from api.store.tasks import Queued
from schema.reports import Result
from schema.tasks import Reason, Status

_SQL = load("results")

_encode = msgspec.json.Encoder().encode

Outcome = Literal["succeeded", "failed", "cancelled", "lost", "unstarted", "returned"]
"""What an ended attempt means for its task: see finish_many in results.sql."""

_OUTCOMES: dict[Reason, Outcome] = {
    "exit": "failed",
    "signal": "failed",
    "timeout": "failed",
    "cancelled": "cancelled",
    "agent_lost": "lost",
    "spawn_error": "unstarted",
    "returned": "returned",
}

_LOST = {
    "lost": "was silent for {silent_s:.0f} s",
    "replaced": "died, and was started again",
    "closed": "ended its session and left no result",
    "revoked": "had its token revoked",
}
"""Why a session's tasks have nobody any more, by how it ended."""

AttemptKey = tuple[int, int]
"""(task, attempt)"""


class Ended(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """One attempt that ended. Its fields are the columns of `finish_many`'s JSON."""

    task: int
    attempt: int
    session: int
    """0 where the compatible routes claimed."""
    outcome: Outcome
    reason: Reason
    exit_code: int | None = None
    signal: int | None = None
    message: str | None = None
    run_s: float | None = None
    stdout_bytes: int | None = None
    """Declared by the agent, as the three below."""
    stdout_crc: int | None = None
    stderr_bytes: int | None = None
    stderr_crc: int | None = None
    cut: int = 0
    """Streams of which the agent dropped some: see `api.store.logs.CUT_BY_AGENT`."""

    @classmethod
    def lost(cls, task: int, attempt: int, session: int, message: str) -> "Ended":
        """Nobody is left to say how it ended."""
        return cls(
            task=task,
            attempt=attempt,
            session=session,
            outcome="lost",
            reason="agent_lost",
            message=message,
        )


class Change(Struct, frozen=True, gc=False):
    """What a task became."""

    task: int
    attempt: int
    status: Status
    place: Queued
    """In the queue, where the task is pending again."""


class PulledAttempt(Struct, frozen=True):
    """The attempt that a legacy agent works on."""

    attempt: int
    day: date
    status: Status


def outcome_of(result: Result) -> Outcome:
    """Success is an exit with code 0; all else depends on the reason."""
    if result.reason == "exit" and result.exit_code == 0:
        return "succeeded"
    return _OUTCOMES[result.reason]


async def finish_many(
    connection: Connection, ended: Iterable[Ended], crash_limit: int
) -> list[Change]:
    """End attempts, in id order; those that do not count any more give no row."""
    rows = list(ended)
    if not rows:
        return []
    changes = await connection.fetch(
        _SQL["finish_many"], [row.task for row in rows], _encode(rows).decode(), crash_limit
    )
    return [Change(row[0], row[1], row[2], Queued(row[3], row[4], row[5])) for row in changes]


async def ended_before(connection: Connection, ended: Sequence[Ended]) -> set[AttemptKey]:
    """Of attempts that finish_many did not take: those that ended in the same way before."""
    rows = await connection.fetch(
        _SQL["ended_before"],
        [row.task for row in ended],
        [row.attempt for row in ended],
        [row.session for row in ended],
        [row.reason for row in ended],
    )
    return {(row[0], row[1]) for row in rows}


async def held_by_dead(connection: Connection) -> list[Ended]:
    """Attempts whose session is over, at most 1,000."""
    return [
        Ended.lost(task, attempt, session, f"agent {agent} {_LOST[how].format(silent_s=silent_s)}")
        for task, attempt, session, agent, how, silent_s in await connection.fetch(
            _SQL["held_by_dead"]
        )
    ]


async def silent_pulled(connection: Connection, silence_s: float) -> list[Ended]:
    """Attempts of legacy agents that have been silent for too long, at most 1,000.

    Nobody can fence such an agent off if it still works, so the task runs again only where
    `max_attempts` allows that.
    """
    return [
        Ended(
            task=task,
            attempt=attempt,
            session=0,
            outcome="failed",
            reason="agent_lost",
            message=f"the agent that pulled it sent no log for {silence_s:.0f} s",
        )
        for task, attempt in await connection.fetch(_SQL["silent_pulled"], silence_s)
    ]


async def pulled_attempts(
    connection: Connection, tasks: Sequence[int]
) -> list[PulledAttempt | None]:
    """The newest attempt of each task, if the compatible routes claimed it."""
    rows = await connection.fetch(_SQL["pulled_attempts"], tasks)
    found = {row[0]: PulledAttempt(row[1], row[2], row[3]) for row in rows}
    return [found.get(task) for task in tasks]
