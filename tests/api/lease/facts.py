"""What the model of the lease protocol keeps of tasks, attempts and sessions."""

from dataclasses import dataclass, field
from typing import Any

from schema.sessions import Held
from schema.tasks import Reason, Status

LEASE_S = 3600.0
REAPER_S = 3600.0
CRASH_LIMIT = 2
PULLED = 0
"""Owner of what the compatible routes gave away."""

ChunkKey = tuple[int, int, str, int]
"""(task, attempt, stream, position)"""
Rows = dict[str, dict[Any, tuple[Any, ...]]]
"""By table and key."""


@dataclass(frozen=True)
class Lease:
    """An attempt as it was given away. The text is all that its agent needs to show."""

    task: int
    attempt: int
    owner: int
    text: str

    @property
    def held(self) -> Held:
        """As beats name it."""
        return self.task, self.attempt


@dataclass(frozen=True)
class Past:
    """How an attempt ended that a newer one may supersede."""

    owner: int
    reason: Reason
    status: Status


@dataclass(eq=False)
class Session:
    """One life of an agent."""

    number: int
    agent: str
    secret: str
    labels: tuple[str, ...]
    drain: bool = False
    """Somebody wished that it takes nothing more."""
    ended: str | None = None
    silent: bool = False
    """For longer than a lease, by the database's clock."""
    known: dict[int, bool] = field(default_factory=dict)
    """Instances that remember it, and whether what they remember is older than a lease."""
    heard: set[int] = field(default_factory=set)
    """Instances that have heard of it, and not told the database yet."""
    holds: set[Lease] = field(default_factory=set)
    """What its agent was given, and has not been rid of since."""


@dataclass(eq=False)
class Task:
    """One task."""

    id: int
    command: str
    needs: frozenset[str]
    priority: int
    max_attempts: int
    exclusive: bool
    status: Status
    place: int | None = None
    """In the queue, as the database drew it; None: drawn anew, and not read yet."""
    attempt: int = 0
    owner: int | None = None
    started: bool = False
    """The newest attempt is in the task's own row, not among the past ones."""
    failures: int = 0
    crashes: int = 0
    cancelled: bool = False
    """Somebody wished it."""
    reason: Reason | None = None
    quiet: bool = False
    """Pulled, and no log came for too long."""
    past: dict[int, Past] = field(default_factory=dict)


@dataclass
class Ticks:
    """What one instance's reaper knows of the time."""

    last_s: float | None = None
    now_s: float = 0
    patient_until_s: float = 0
