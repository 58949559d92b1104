"""Tasks as people hand them over and see them: submissions, tasks, attempts, groups."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

Status = Literal["pending", "scheduled", "in_progress", "succeeded", "failed", "cancelled"]
"""`pending` may be claimed now, `scheduled` not before its time; the last three are final."""

FinalStatus = Literal["succeeded", "failed", "cancelled"]

FINAL: frozenset[Status] = frozenset({"succeeded", "failed", "cancelled"})

Reason = Literal["exit", "signal", "timeout", "cancelled", "agent_lost", "spawn_error", "returned"]
"""Why an attempt ended. `agent_lost` and `spawn_error` blame the machine, not the task;
`returned` means that it never started."""

INFRASTRUCTURE: frozenset[Reason] = frozenset({"agent_lost", "spawn_error"})

Stream = Literal["stdout", "stderr"]

Isolation = Literal["none", "bwrap", "docker"]
"""What stands between a task and its machine, in this order: a process group; namespaces of its
own by bubblewrap; a container."""

ISOLATIONS: tuple[Isolation, ...] = ("none", "bwrap", "docker")
"""Each one keeps in what those before it keep in."""

# `$` alone would let a last newline pass.
LABEL = r"^[^\s,\x00]+$(?!\n)"
Label = Annotated[str, Meta(min_length=1, max_length=200, pattern=LABEL)]
"""What an agent offers and a task needs, for example `os=android-15`. Compared as a whole."""

SentLabel = Annotated[str, Meta(min_length=1, max_length=200, extra_json_schema={"pattern": LABEL})]
"""One whose pattern the server looks at by itself, when it knows that there are not too many: to
decode half a million of them held all others up for 0.4 s."""

Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$(?!\n)")]

Image = Annotated[
    str, Meta(min_length=1, max_length=500, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:@-]*$(?!\n)")
]
"""Of a container, as `registry/name:tag` or with a digest."""

ISOLATION_LABEL = "isolation="
"""Agents announce by such labels what they can give tasks that ask for it."""

MAX_TASKS_PER_SUBMISSION = 10_000

MAX_COMMAND_BYTES = 131_071
"""Linux takes no longer argument (MAX_ARG_STRLEN, 32 pages with the final NUL)."""

MAX_VARIABLES = 1000

MAX_ENV_BYTES = 524_288
"""Of all variables of a task. Linux takes 2 MiB for arguments and environment, of which the agent's
own is a part."""

MAX_SECRETS = 32
"""Of one task. Its agent looks for each in several forms in all that the task writes."""
MAX_SECRET_BYTES = 65_536
MAX_SECRET_LINES = 200
"""Of all secrets of a task together: each line is looked for."""
MIN_SECRET_CHARS = 6
"""Shorter ones stand in any log by chance: stars there would tell more than they hide."""

# As with labels, the server looks for = and NUL itself.
_Variable = Annotated[
    str, Meta(min_length=1, max_length=1000, extra_json_schema={"pattern": r"^[^=\x00]+$"})
]
_Value = Annotated[str, Meta(max_length=131_072, extra_json_schema={"pattern": r"^[^\x00]*$"})]


class Submission(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One shell task. Unknown fields are refused: a typo must not pass."""

    command: Annotated[str, Meta(min_length=1, max_length=MAX_COMMAND_BYTES, pattern=r"^[^\x00]*$")]
    """Run by `bash -c` on the agent (`sh -c` where there is no bash)."""
    name: Name | None = None
    group: Name | None = None
    env: Annotated[dict[_Variable, _Value], Meta(max_length=MAX_VARIABLES)] = field(
        default_factory=dict
    )
    """Added to the environment that the agent gives its tasks."""
    secrets: (
        Annotated[
            dict[_Variable, _Value],
            Meta(max_length=MAX_SECRETS, extra_json_schema={"writeOnly": True}),
        ]
        | UnsetType
    ) = UNSET
    """As `env`, but nobody is told the values again, and they are redacted from the task's log."""
    cwd: Annotated[str, Meta(min_length=1, max_length=4096, pattern=r"^[^\x00]*$")] | None = None
    needs: Annotated[tuple[SentLabel, ...], Meta(max_length=64)] = ()
    """Labels that an agent must have, all of them, to be given the task."""
    isolation: Isolation | UnsetType | None = UNSET
    """At least that much of it, whatever the agent's own setting. Not sent while it is not set, as
    `no_output_timeout`."""
    image: Image | UnsetType | None = UNSET
    """For a container, which it asks for. Not sent while it is not set."""
    priority: Annotated[int, Meta(ge=0, le=9)] = 5
    """9 is claimed first."""
    timeout: Annotated[float, Meta(gt=0, le=31_536_000)] | None = None
    """Seconds of one attempt; then the process tree is ended."""
    no_output_timeout: Annotated[float, Meta(gt=0, le=31_536_000)] | UnsetType | None = UNSET
    """Seconds for which an attempt may write to neither stream; then it is ended in the same way.

    Not sent while it is not set: a server that does not know it would refuse it, and a key whose
    submission was stored before it was known would stand for another one."""
    max_attempts: Annotated[int, Meta(ge=1, le=100)] = 1
    """How often the command may fail. An attempt that its machine lost does not count."""
    run_after: datetime | None = None
    """Not before this time. With an offset from UTC, or it is refused."""
    exclusive: bool = False
    """Two attempts of it never overlap, even if that kills one whose agent is cut off."""
    key: Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\x00]*$")] | None = None
    """Submitting the same key again gives the same task; with another body it is a 409."""

    @property
    def hidden(self) -> dict[str, str]:
        """Its secrets, empty where there are none."""
        return self.secrets if isinstance(self.secrets, dict) else {}


class Submitted(Struct, frozen=True):
    """Answer to a submission, in its order."""

    id: int
    status: Status
    created: bool
    """False where `key` named a task that was there already."""


LogState = Literal["complete", "open", "cut", "missing", "damaged", "undeclared", "expired"]
"""What a log says of itself. `complete`: all bytes, with the CRC of what was written; `open`: may
still grow; `cut`: there was more than a log may hold, and a line in it or `missing` says how much
went; `missing`: see `missing`; `damaged`: other bytes than were written, or some of them twice;
`undeclared`: its agent never got to say how much there was; `expired`: retention took it."""


class StreamLog(Struct, frozen=True, kw_only=True):
    """How much of one stream of one attempt is stored."""

    state: LogState
    bytes: int
    lines: int
    missing: tuple[tuple[int, int], ...] = ()
    """Byte ranges, first and one past the last, that were written but never arrived."""


class Attempt(Struct, frozen=True, kw_only=True):
    """One run of a task."""

    attempt: int
    agent: str | None
    reason: Reason | None
    exit_code: int | None = None
    signal: int | None = None
    message: str | None = None
    started_at: datetime
    finished_at: datetime | None = None
    run_s: float | None = None


class Task(Struct, frozen=True, kw_only=True):
    """A task as people see it."""

    id: int
    status: Status
    command: str
    priority: int
    max_attempts: int
    attempt: int
    """Number of the newest attempt; 0 before the first claim."""
    submitted_at: datetime
    name: str | None = None
    group: str | None = None
    env: dict[str, str] | None = None
    secrets: tuple[str, ...] = ()
    """Names only."""
    cwd: str | None = None
    needs: tuple[str, ...] = ()
    isolation: Isolation | None = None
    """Asked for; an agent may give more."""
    image: str | None = None
    timeout: float | None = None
    no_output_timeout: float | None = None
    run_after: datetime | None = None
    exclusive: bool = False
    key: str | None = None
    cancel_requested: bool = False
    agent: str | None = None
    reason: Reason | None = None
    exit_code: int | None = None
    signal: int | None = None
    message: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    run_s: float | None = None
    """Seconds between the start and the end of the process, by the agent's clock."""
    logs: dict[Stream, StreamLog] | UnsetType = UNSET
    """Of the newest attempt; only when one task is asked for."""
    attempts: tuple[Attempt, ...] | UnsetType = UNSET
    """Earlier attempts, oldest first; only when one task is asked for."""


class TaskPage(Struct, frozen=True):
    """Newest first."""

    tasks: tuple[Task, ...]
    next: str | None
    """Hand it back as `cursor` for the page after this one."""


class Retry(Struct, frozen=True, forbid_unknown_fields=True):
    """Run a finished task once more."""

    after_attempt: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    """The attempt that the retry follows: sent again after a lost reply, it changes nothing."""


class Group(Struct, frozen=True, kw_only=True):
    """Tasks that were submitted together as one test run."""

    name: str
    counts: dict[Status, int]
    infrastructure: int = 0
    """How many of the failed ones their machines failed: `agent_lost`, `spawn_error`."""
    total: int
    submitted_at: datetime
    finished_at: datetime | None
    """When the last task ended; null while any has not."""
    counted_at: datetime | None = None
    """By the database's clock; null from servers that do not tell."""
    slowest: tuple[Task, ...] | UnsetType = UNSET
    """Those that run, or ran, the longest; only when they are asked for."""


class GroupPage(Struct, frozen=True):
    """Newest first: by the submission that brought the name."""

    groups: tuple[Group, ...]
    next: str | None
    """Hand it back as `cursor` for the page after this one."""


class GroupCancelled(Struct, frozen=True):
    """Answer to `POST /groups/{name}/cancel`."""

    name: str
    cancelled: int
    """Tasks that had not started, or had nobody to ask."""
    asked: int
    """Tasks that run, and have been asked to end."""


class GroupRetry(Struct, frozen=True, forbid_unknown_fields=True):
    """Run finished tasks of a group once more."""

    status: Annotated[tuple[FinalStatus, ...], Meta(min_length=1, max_length=3)] = ("failed",)
    """Those that ended so."""
    ended_before: datetime | None = None
    """Only those that had ended then, with an offset from UTC: with the `counted_at` of a look at
    the group, sending it again after a lost reply starts nothing twice."""


class GroupRetried(Struct, frozen=True):
    """Answer to `POST /groups/{name}/retry`."""

    name: str
    retried: int
