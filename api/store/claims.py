"""Claims: pending tasks change hands."""

from collections.abc import Iterable, Sequence
from datetime import date

import msgspec
from asyncpg import Record
from msgspec import Struct

from api.sql import load
from api.store import Connection
from api.store.tasks import Queued, isolation_of
from schema.claims import ClaimedTask
from schema.lease import Lease, sign
from schema.sessions import Held
from schema.tasks import (
    MAX_COMMAND_BYTES,
    MAX_ENV_BYTES,
    MAX_SECRET_BYTES,
    Isolation,
    Submission,
)

_SQL = load("claims")
MOST_BYTES = 8 * 1024 * 1024
"""Of the commands and variables of one reply, about; secrets count as the most that they may be. A
thousand tasks as large as they may be were a reply of 700 MB."""

ALWAYS_FIT = MOST_BYTES // (MAX_COMMAND_BYTES + MAX_ENV_BYTES + MAX_SECRET_BYTES)
"""So many tasks are not more, however large they are."""

_decode_env = msgspec.json.Decoder(dict[str, str]).decode
_encode_env = msgspec.json.Encoder().encode


class Claimed(Struct, frozen=True, gc=False):
    """A task in the hands of a session, as the database gives it."""

    id: int
    attempt: int
    day: date
    command: str
    env: str | None
    cwd: str | None
    timeout: float | None
    no_output_timeout: float | None
    exclusive: bool
    secret: bool
    """It has secrets."""
    isolation: Isolation | None
    image: str | None

    @classmethod
    def new(cls, number: int, day: date, task: Submission) -> "Claimed":
        """A task that was stored as claimed."""
        return cls(
            number, 1, day, task.command, _encode_env(task.env).decode() if task.env else None,
            task.cwd, task.timeout, task.no_output_timeout or None, task.exclusive,
            bool(task.hidden),
            isolation_of(task), task.image or None,
        )  # fmt: skip

    def for_agent(
        self, session: int, key: bytes, secrets: dict[str, str] | None = None
    ) -> ClaimedTask:
        """What goes to the agent, with its lease."""
        return ClaimedTask(
            id=self.id,
            attempt=self.attempt,
            lease=sign(Lease(self.id, self.attempt, self.day, session), key),
            command=self.command,
            env=None if self.env is None else _decode_env(self.env),
            cwd=self.cwd,
            timeout=self.timeout,
            no_output_timeout=self.no_output_timeout,
            exclusive=self.exclusive,
            secrets=secrets,
            isolation=self.isolation or "none",
            image=self.image,
        )


class Holding(Struct, frozen=True, gc=False):
    """What a beat of one session has to tell."""

    tasks: list[tuple[Held, bool]]
    """All that it holds, by number, and whether each shall be cancelled."""
    drain: bool


def _claimed(row: Record, first: int) -> Claimed:
    return Claimed(*tuple(row)[first : first + 12])


async def claim_many(
    connection: Connection,
    floors: Sequence[Queued],
    sessions: Sequence[int | None],
    most_bytes: int = MOST_BYTES,
) -> list[tuple[int, Queued, Claimed]]:
    """Claim at most one task for each place in `sessions`, the best task for the first place.

    Where all these have more than `most_bytes`, only the first ALWAYS_FIT are claimed. The others
    were locked for a moment: who claims has to tell where the queues begin.

    Returns (place from 0, where the task was queued, task); `None` stands for an agent of the
    compatible routes.
    """
    rows = await connection.fetch(
        _SQL["claim_many"],
        [floor.lane for floor in floors],
        [floor.priority for floor in floors],
        [floor.queue_seq for floor in floors],
        sessions,
        most_bytes,
        ALWAYS_FIT,
    )
    return [(row[0], Queued(row[1], row[2], row[3]), _claimed(row, 4)) for row in rows]


async def queue_heads(connection: Connection, lanes: Iterable[int]) -> list[Queued]:
    """The first pending task of each queue, looked for without floors."""
    return [Queued(*row) for row in await connection.fetch(_SQL["queue_heads"], list(lanes))]


async def held_by_many(connection: Connection, sessions: Sequence[int]) -> list[Holding]:
    """What each session holds, and whether it shall drain."""
    held: dict[int, list[tuple[Held, bool]]] = {session: [] for session in sessions}
    draining = set()
    for session, task, attempt, cancelled in await connection.fetch(
        _SQL["held_by_many"], list(held)
    ):
        if task is None:
            draining.add(session)
        else:
            held[session].append(((task, attempt), cancelled))
    return [Holding(sorted(held[session]), session in draining) for session in sessions]


async def redeliver(
    connection: Connection, session: int, tasks: Sequence[int], most_bytes: int = MOST_BYTES
) -> list[Claimed]:
    """Those of the tasks that the session holds, by number, as its claims gave them.

    The first ones, up to the one that brings them to `most_bytes`.
    """
    rows = await connection.fetch(_SQL["redeliver"], session, tasks, most_bytes)
    return [_claimed(row, 0) for row in rows]
