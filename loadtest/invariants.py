"""What must hold after any run, whatever was done to the server meanwhile.

Everything here works on a `Record` of what agents did and on a `Reader` of what the server says;
nothing knows of Locust. Each rule has a name, under which it is reported:

    claimed twice          one attempt was given to two agents
    ran again              an attempt was followed by another one without cause, or after its
                           result had been acknowledged; one that no agent saw has a cause where
                           the server gave it to a session that lost the answer to a claim
    reported twice         results of two attempts of one task were acknowledged
    not final              the result of a task was acknowledged, and its state is another one
    lost                   a task was accepted, and the server does not know it
    chunk missing          an acknowledged chunk is not in the log
    log differs            the log has other bytes than were sent, or more
    log state              the log of a finished attempt does not call itself whole
    refused                a sound chunk or result was refused (written down while running)
"""

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec
from msgspec import Struct

from loadtest.reader import Reader
from loadtest.record import AttemptKey, Piece, Record, Violation, name_of
from schema.tasks import FINAL, Status, Stream, Task, TaskPage
from schema.tasks import Attempt as ToldAttempt

_IDS_AT_ONCE = 200
_tasks = msgspec.json.Decoder(TaskPage)
_task = msgspec.json.Decoder(Task)


class Findings(Struct):
    """What the checks looked at, and what they found."""

    attempts: int
    reported: int
    logs: int
    log_bytes: int
    violations: list[Violation]


def check(record: Record, reader: Reader, *, most_logs: int = 500) -> Findings:
    """Apply all rules; read back all logs, or a random sample of `most_logs` attempts."""
    statuses = read_statuses(reader, record.submitted | {task for task, _ in record.attempts})
    violations = [
        *record.refusals,
        *claimed_twice(record),
        *ran_again(record, read_attempts(reader, unseen(record))),
        *reported_twice(record),
        *not_final(record, statuses),
        *lost(record, statuses),
    ]
    logs = log_bytes = 0
    for key in sample(record, most_logs):
        for stream in record.attempts[key].pieces:
            size, found = check_log(record, reader, key, stream)
            violations += found
            logs += 1
            log_bytes += size
    reported = sum(attempt.acknowledged for attempt in record.attempts.values())
    return Findings(len(record.attempts), reported, logs, log_bytes, sorted(violations))


def claimed_twice(record: Record) -> Iterator[Violation]:
    """An attempt has one agent."""
    for key, attempt in record.attempts.items():
        if len(attempt.holders) > 1:
            yield Violation("claimed twice", name_of(key), f"given to {attempt.holders}")


def ran_again(record: Record, told: Mapping[AttemptKey, ToldAttempt | None]) -> Iterator[Violation]:
    """Attempt n + 1 needs a cause in attempt n; none has one once its result is acknowledged.

    `told` is what the server says of those that are `unseen`.
    """
    for (task, number), attempt in record.attempts.items():
        follower = (task, number + 1)
        if not number or (follower not in record.attempts and follower not in told):
            continue
        if attempt.acknowledged:
            what = f"attempt {number} had ended as {attempt.outcome}, acknowledged"
        elif attempt.excuse is None:
            what = f"attempt {number} was with {attempt.holders}, which had not ended"
        else:
            continue
        yield Violation("ran again", name_of(follower), what)
    for (task, number), one in told.items():
        if one is None:
            what = f"the server knows nothing of attempt {number}"
        elif not record.lost_claims[one.agent or ""]:
            what = f"attempt {number} was with {one.agent}, which lost no claim and never saw it"
        elif one.reason != "agent_lost":
            what = f"attempt {number} ended as {one.reason}, and {one.agent} never saw it"
        else:
            continue
        yield Violation("ran again", name_of((task, number + 1)), what)


def unseen(record: Record) -> set[AttemptKey]:
    """Attempts that must have been, as later ones were given out, and that no agent saw."""
    return {
        (task, before)
        for task, number in record.attempts
        for before in range(1, number)
        if (task, before) not in record.attempts
    }


def reported_twice(record: Record) -> Iterator[Violation]:
    """Only one attempt's result counts."""
    ended: dict[int, list[int]] = defaultdict(list)
    for (task, number), attempt in record.attempts.items():
        if attempt.acknowledged:
            ended[task].append(number)
    for task, numbers in ended.items():
        if len(numbers) > 1:
            yield Violation("reported twice", f"task {task}", f"by attempts {sorted(numbers)}")


def not_final(record: Record, statuses: Mapping[int, Status]) -> Iterator[Violation]:
    """An acknowledged result is what the task shows."""
    for (task, number), attempt in record.attempts.items():
        if not attempt.acknowledged or task not in statuses:
            continue
        status = statuses[task]
        if status not in FINAL or status != attempt.outcome:
            what = f"reported as {attempt.outcome}, acknowledged, and it is {status}"
            yield Violation("not final", name_of((task, number)), what)


def lost(record: Record, statuses: Mapping[int, Status]) -> Iterator[Violation]:
    """What was accepted or given out is known."""
    for task in sorted((record.submitted | {task for task, _ in record.attempts}) - set(statuses)):
        yield Violation("lost", f"task {task}", "the server does not know it")


def sample(record: Record, most: int) -> list[AttemptKey]:
    """Attempts with a log; all of them, or `most` by chance."""
    keys = sorted(key for key, attempt in record.attempts.items() if attempt.pieces)
    return keys if len(keys) <= most else random.Random(0).sample(keys, most)


def check_log(
    record: Record, reader: Reader, key: AttemptKey, stream: Stream
) -> tuple[int, list[Violation]]:
    """Read one log back; its size and what is wrong with it."""
    task, number = key
    attempt = record.attempts[key]
    which = f"&attempt={number}" if number else ""
    answer = reader.ask("GET", f"/tasks/{task}/logs?stream={stream}{which}")
    where = f"{name_of(key)}, {stream}"
    if answer.status != 200:  # noqa: PLR2004 - OK
        what = f"cannot be read: {answer.status} {answer.body[:200].decode(errors='replace')}"
        return 0, [Violation("chunk missing", where, what)]
    wrong = compare_log(attempt.pieces[stream], answer.body)
    found = [] if wrong is None else [Violation(wrong[0], where, wrong[1])]
    state = answer.headers.get("log-state")
    # Who was taken by the compatible routes never says how much there is.
    if attempt.acknowledged and state != ("complete" if number else "undeclared"):
        found.append(Violation("log state", where, f"{state}, {answer.headers.get('log-missing')}"))
    return len(answer.body), found


def compare_log(pieces: Sequence[Piece], text: bytes) -> tuple[str, str] | None:
    """Rule and reason, unless the text is all acknowledged pieces in their order.

    A piece that was sent but not acknowledged may be there, whole, or not at all.
    """
    at = 0
    for piece in sorted(pieces, key=lambda each: each.position):
        end = at
        for part in piece.parts:
            if not text.startswith(part, end):
                break
            end += len(part)
        else:
            at = end
            continue
        if not piece.acknowledged:
            continue
        name = f"chunk at {piece.position} ({piece.size} bytes, acknowledged)"
        if at + piece.size > len(text):
            return "chunk missing", f"{name}: the log ends at byte {len(text)}"
        wanted = b"".join(piece.parts)
        first = next(n for n, byte in enumerate(wanted) if text[at + n] != byte)
        return "log differs", f"{name}: byte {at + first} of the log is another one"
    if at < len(text):
        return "log differs", f"{len(text) - at} bytes follow all that was sent"
    return None


def read_statuses(reader: Reader, tasks: Iterable[int]) -> dict[int, Status]:
    """The state of each task that the server knows."""
    return {task.id: task.status for task in read_tasks(reader, tasks)}


def read_attempts(
    reader: Reader, keys: Iterable[AttemptKey]
) -> dict[AttemptKey, ToldAttempt | None]:
    """What the server says of earlier attempts; None of those that it does not know."""
    found: dict[AttemptKey, ToldAttempt | None] = dict.fromkeys(keys)
    for task in sorted({task for task, _ in found}):
        answer = reader.ask("GET", f"/tasks/{task}")
        if answer.status == 404:  # noqa: PLR2004 - not found: `lost` tells of it
            continue
        if answer.status != 200:  # noqa: PLR2004 - OK
            raise RuntimeError(f"GET /tasks/{task}: {answer.status} {answer.body[:500]!r}")
        told = _task.decode(answer.body).attempts
        for attempt in told or ():
            if (task, attempt.attempt) in found:
                found[task, attempt.attempt] = attempt
    return found


def read_tasks(reader: Reader, tasks: Iterable[int]) -> Iterator[Task]:
    """What the server says of these tasks."""
    numbers = sorted(tasks)
    for first in range(0, len(numbers), _IDS_AT_ONCE):
        ids = numbers[first : first + _IDS_AT_ONCE]
        answer = reader.ask("GET", "/tasks?" + "&".join(f"id={number}" for number in ids))
        if answer.status != 200:  # noqa: PLR2004 - OK
            raise RuntimeError(f"GET /tasks: {answer.status} {answer.body[:500]!r}")
        yield from _tasks.decode(answer.body).tasks
