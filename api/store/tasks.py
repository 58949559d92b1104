"""Tasks: handed over, looked at, cancelled, run again."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from datetime import date

import msgspec
from asyncpg import Record
from msgspec import UNSET, Struct

from api.sealing import Seals
from api.sql import load
from api.store import Connection
from api.store import secrets as secret_store
from api.store.lanes import Needs
from schema.tasks import (
    ISOLATION_LABEL,
    Attempt,
    Isolation,
    Status,
    Submission,
    Submitted,
    Task,
)

_SQL = load("tasks")
_FIRST_STEP = 20  # tasks that are read before their sizes are looked at
_encode = msgspec.json.Encoder(order="sorted").encode
_decode_env = msgspec.json.Decoder(dict[str, str]).decode


class KeyConflictError(Exception):
    """A key of the submission stands for another submission already."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


FOR_SECRETS = "keeps secrets"
"""What tasks with secrets need besides. No person can write this label: it has a space in it."""


class Queued(Struct, frozen=True, gc=False):
    """A place in the queue of a lane: that of a task, or where to look for one."""

    lane: int
    priority: int
    queue_seq: int


class Cancelled(Struct, frozen=True, gc=False):
    """What a cancellation came upon."""

    status: Status
    session: int | None
    """Who must be told, while the task is in progress."""


def needs_of(task: Submission) -> Needs:
    """The lane of a submission: its needs, and labels for what else it asks of its agent."""
    asked = isolation_of(task)
    isolated = () if asked is None else (f"{ISOLATION_LABEL}{asked}",)
    return tuple(sorted({*task.needs, *isolated, *((FOR_SECRETS,) if task.hidden else ())}))


def _digests(task: Submission, seals: Seals | None) -> list[bytes]:
    """What tells it from others, the one to be stored first: another for each key that seals."""
    if not task.hidden or seals is None:
        return [hashlib.sha256(_encode(task)).digest()]
    plain = _encode(msgspec.structs.replace(task, secrets=UNSET))
    return [hashlib.sha256(plain + each).digest() for each in seals.digests(task.hidden)]


def isolation_of(task: Submission) -> Isolation | None:
    """What it asks for; None where that is nothing. An image is for containers."""
    if task.image:
        return "docker"
    if task.isolation is UNSET or task.isolation == "none":
        return None
    return task.isolation


class Stored(Struct, frozen=True, gc=False):
    """What became of one submission."""

    answer: Submitted
    day: date | None
    """Of its first attempt, where it was stored for a session."""


async def submit_many(
    connection: Connection,
    tasks: Sequence[Submission],
    lanes: Mapping[Needs, int],
    sessions: Sequence[int | None],
    who: str,
    seals: Seals | None = None,
) -> tuple[list[Stored], list[Queued]]:
    """Store all tasks in one transaction, or none, and that `who` did.

    `lanes` has the needs of every task; `sessions` names, for each, one that waits for it and
    claims it thereby; `seals` is there if any has secrets. Returns one answer per task, in order,
    and the new tasks that may be claimed now. KeyConflictError when a key stands for another
    submission.
    """
    digests = [None if task.key is None else _digests(task, seals) for task in tasks]
    keys = [task.key for task in tasks if task.key is not None]
    secret = any(task.hidden for task in tasks)
    assert seals is not None or not secret, "such a submission is refused"
    # Without keys it is one statement, which is a transaction by itself: two round trips less.
    async with connection.transaction() if keys or secret else nullcontext():
        rows = await connection.fetch(
            _SQL["submit_many"],
            who,
            [task.command for task in tasks],
            [task.name for task in tasks],
            [task.group for task in tasks],
            [task.cwd for task in tasks],
            [task.key for task in tasks],
            [None if each is None else each[0] for each in digests],
            [_encode(task.env).decode() if task.env else None for task in tasks],
            [lanes[needs_of(task)] for task in tasks],
            [task.priority for task in tasks],
            [task.max_attempts for task in tasks],
            [task.timeout for task in tasks],
            [task.no_output_timeout or None for task in tasks],  # UNSET is falsy, 0 is refused
            [task.run_after for task in tasks],
            [task.exclusive for task in tasks],
            [isolation_of(task) for task in tasks],
            [task.image or None for task in tasks],
            sessions,
            ["=".join(task.hidden) if task.hidden else None for task in tasks],
        )
        known = (
            {row["key"]: row for row in await connection.fetch(_SQL["find_keys"], keys)}
            if keys
            else {}
        )
        for task, digest in zip(tasks, digests, strict=True):
            if task.key is not None and known[task.key]["key_digest"] not in (digest or ()):
                raise KeyConflictError(task.key)
        answers = _answers(tasks, rows, known)
        if secret and seals is not None:
            new = [
                (each.answer.id, task.hidden)
                for each, task in zip(answers, tasks, strict=True)
                if each.answer.created and task.hidden
            ]
            sealed = {number: seals.seal(number, secrets) for number, secrets in new}
            await secret_store.put_many(connection, sealed)
    queued = [
        Queued(row["lane"], row["priority"], row["queue_seq"])
        for row in rows
        if row["status"] == "pending"
    ]
    return answers, queued


def _answers(
    tasks: Sequence[Submission], rows: Sequence[Record], known: Mapping[str, Record]
) -> list[Stored]:
    """One for each submission: `rows` are the new ones, `known` those that keys name."""
    created = {row["id"]: row["day"] for row in rows}
    keyless = iter(row for row in rows if row["key"] is None)
    answers = []
    for task in tasks:
        row = next(keyless) if task.key is None else known[task.key]
        answer = Submitted(row["id"], row["status"], row["id"] in created)
        # The second one with that key did not create it.
        answers.append(Stored(answer, created.pop(answer.id, None)))
    return answers


def shown(labels: Iterable[str]) -> tuple[str, ...]:
    """Labels as people know them: without the one of agents that keep secrets."""
    return tuple(label for label in labels if label != FOR_SECRETS)


def _labels(needs: Iterable[str]) -> Needs:
    """What was submitted of a lane's needs."""
    return tuple(label for label in shown(needs) if not label.startswith(ISOLATION_LABEL))


def _task(row: Record) -> Task:
    env = row["env"]
    return Task(
        id=row["id"], status=row["status"], command=row["command"], priority=row["priority"],
        max_attempts=row["max_attempts"], attempt=row["attempt"], submitted_at=row["submitted_at"],
        name=row["name"], group=row["group_name"], env=None if env is None else _decode_env(env),
        secrets=tuple(row["secret_names"] or ()), cwd=row["cwd"],
        needs=_labels(row["needs"]), isolation=row["isolation"], image=row["image"],
        timeout=row["timeout_s"],
        no_output_timeout=row["no_output_timeout_s"], run_after=row["run_after"],
        exclusive=row["exclusive"], key=row["key"], cancel_requested=row["cancel_requested"],
        agent=row["agent"], reason=row["reason"], exit_code=row["exit_code"], signal=row["signal"],
        message=row["message"], started_at=row["started_at"], finished_at=row["finished_at"],
        run_s=row["run_s"],
    )  # fmt: skip


async def get_many(connection: Connection, ids: Iterable[int]) -> list[Task]:
    """Those of the tasks that exist, newest first."""
    return [_task(row) for row in await connection.fetch(_SQL["get_many"], list(ids))]


async def get_page(
    connection: Connection, ids: Sequence[int], most_bytes: int
) -> tuple[list[Task], int]:
    """Tasks, as `get_many`, of as many of `ids` as have been looked at when they are too large.

    `ids` descend. Returns the number of those looked at, too.
    """
    tasks: list[Task] = []
    size = read = 0
    step = _FIRST_STEP
    while read < len(ids) and size < most_bytes:
        rows = await connection.fetch(_SQL["get_many"], ids[read : read + step])
        tasks += map(_task, rows)
        size += sum(len(row["command"]) + len(row["env"] or "") for row in rows)
        read = min(read + step, len(ids))
        # As many as would fill the page if they are like those before.
        step = max(1, (most_bytes - size) * read // max(size, 1))
    return tasks, read


async def list_ids(
    connection: Connection,
    *,
    below: int,
    status: Sequence[Status] | None,
    group: str | None,
    name: str | None,
    agent: str | None,
    limit: int,
) -> list[int]:
    """Newest first, numbers smaller than `below`; a filter that is None is off."""
    rows = await connection.fetch(_SQL["list_ids"], below, status, group, name, agent, limit)
    return [row[0] for row in rows]


async def earlier_attempts(connection: Connection, task: int) -> tuple[Attempt, ...]:
    """Superseded attempts, oldest first."""
    rows = await connection.fetch(_SQL["earlier_attempts"], task)
    return tuple(
        Attempt(
            attempt=row["attempt"], agent=row["agent"], reason=row["reason"],
            exit_code=row["exit_code"], signal=row["signal"], message=row["message"],
            started_at=row["started_at"], finished_at=row["finished_at"], run_s=row["run_s"],
        )
        for row in rows
    )  # fmt: skip


async def cancel(connection: Connection, task: int, who: str) -> Cancelled | None:
    """End a task, or ask for its end; None when it is over already or was never there."""
    row = await connection.fetchrow(_SQL["cancel"], task, who)
    return None if row is None else Cancelled(*row)


async def retry(
    connection: Connection, task: int, after_attempt: int | None, who: str
) -> Queued | None:
    """Queue a finished task again; None when it is not finished, or went on to another attempt."""
    row = await connection.fetchrow(_SQL["retry"], task, after_attempt, who)
    return None if row is None else Queued(*row)


async def promote_due(connection: Connection) -> list[Queued]:
    """Queue scheduled tasks whose time has come, at most 1,000."""
    return [Queued(*row) for row in await connection.fetch(_SQL["promote_due"])]


async def next_due(connection: Connection) -> float | None:
    """Seconds until the next scheduled task is due; None when there is none."""
    seconds: float | None = await connection.fetchval(_SQL["next_due"])
    return seconds


async def queue_depth(connection: Connection) -> dict[Status, int]:
    """How many tasks have not ended, by status."""
    return {row[0]: row[1] for row in await connection.fetch(_SQL["queue_depth"])}
