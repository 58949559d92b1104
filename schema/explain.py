"""`GET /tasks/{id}/explain`: why a task is still pending, or what it does instead."""

from datetime import datetime

from msgspec import Struct

from schema.tasks import Reason, Status


class _Why(Struct, frozen=True, kw_only=True, tag_field="kind"):
    text: str
    """A sentence for people."""


class Ended(_Why, frozen=True, kw_only=True, tag="ended"):
    """It is over."""

    status: Status
    reason: Reason | None
    finished_at: datetime | None


class Running(_Why, frozen=True, kw_only=True, tag="running"):
    """It runs."""

    agent: str | None
    """Null where a legacy agent took it."""
    attempt: int
    started_at: datetime | None
    cancel_requested: bool


class NotDue(_Why, frozen=True, kw_only=True, tag="not_due"):
    """Its time has not come."""

    run_after: datetime | None


class WaitsToRetry(_Why, frozen=True, kw_only=True, tag="retry"):
    """An attempt failed, and there is a pause before the next one."""

    run_after: datetime | None
    attempt: int
    reason: Reason | None
    """Why that attempt ended."""


class Nearest(Struct, frozen=True):
    """A live agent that lacks only some labels."""

    agent: str
    missing: tuple[str, ...]


class NoAgent(_Why, frozen=True, kw_only=True, tag="no_agent"):
    """No live agent has all of its labels."""

    missing: tuple[str, ...]
    """Labels that none has."""
    nearest: tuple[Nearest, ...]
    agents: int
    """That live."""


class Draining(_Why, frozen=True, kw_only=True, tag="draining"):
    """All agents that could take it take nothing more."""

    agents: tuple[str, ...]
    """Some of them."""
    count: int


class Busy(_Why, frozen=True, kw_only=True, tag="busy"):
    """All slots that could take it are taken."""

    agents: int
    slots: int
    free_by: datetime | None
    """When the first of the tasks in them must have ended by its timeout; null if none has one."""


class InQueue(_Why, frozen=True, kw_only=True, tag="queue"):
    """Others of its lane are before it."""

    ahead: int
    more: bool
    """There are at least so many."""
    lane: tuple[str, ...]
    """What all of them need."""
    priority: int


class Soon(_Why, frozen=True, kw_only=True, tag="soon"):
    """Nothing holds it."""

    agents: int
    free: int
    """Slots."""


Why = Ended | Running | NotDue | WaitsToRetry | NoAgent | Draining | Busy | InQueue | Soon


class Explanation(Struct, frozen=True):
    """In order of importance."""

    task: int
    status: Status
    text: str
    """All of them, for people."""
    reasons: tuple[Why, ...]
