"""The audit: what people did."""

from datetime import datetime
from typing import Literal

from msgspec import Struct

Action = Literal[
    "tasks submitted",
    "task cancelled",
    "task retried",
    "group cancelled",
    "group retried",
    "agent drained",
    "token made",
    "token revoked",
    "logged in",
]


class AuditEntry(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that somebody did."""

    id: int
    at: datetime
    who: str
    """The name of a token; of the environment's its variable, `TOKEN (environment)`."""
    action: str
    """An `Action`, or one that a newer server knows."""
    task: int | None = None
    """The first one, where it is about tasks."""
    tasks: int | None = None
    """How many."""
    about: str | None = None
    """An agent, a group, or a token and its role."""


class AuditPage(Struct, frozen=True):
    """Newest first."""

    entries: tuple[AuditEntry, ...]
    next: str | None
    """Hand it back as `cursor` for the page after this one."""
