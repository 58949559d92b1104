"""Agents: their sessions, and the beat that keeps a session alive."""

from datetime import datetime
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from schema.claims import ClaimedTask, SessionId
from schema.tasks import Name, SentLabel

MAX_SLOTS = 10_000
"""Of one agent."""

Held = tuple[int, int]
"""(task id, attempt)"""


class SessionOpen(Struct, frozen=True, kw_only=True):
    """`POST /sessions`: an agent starts one life."""

    agent: Name
    """For people; not an identity."""
    labels: Annotated[tuple[SentLabel, ...], Meta(max_length=256)] = ()
    slots: Annotated[int, Meta(ge=1, le=MAX_SLOTS)] = 1
    version: Annotated[str, Meta(max_length=100, pattern=r"^[^\x00]*$")] = ""
    replaces: SessionId | None = None
    """Session of a predecessor that is known to be dead: its tasks need not wait for the lease."""
    keeps_secrets: bool = False
    """The agent gives tasks their secrets and redacts their logs: only such are given any."""


class SessionOpened(Struct, frozen=True):
    """The session id is a secret: whoever has it can report in the agent's name."""

    session: str
    lease_s: float
    """The session lives this long after the sending of the request, unless it is renewed."""
    max_log_bytes: int | None = None
    """What the log of an attempt may hold; no more is stored. Older servers name none."""


class Beat(Struct, frozen=True, kw_only=True):
    """`POST /beats`: a long-poll that renews the session and brings wishes."""

    session: SessionId
    held: Annotated[tuple[Held, ...], Meta(max_length=20_000)] | None = None
    """All that the agent was given and whose result is not acknowledged; null to compare later."""
    cancelling: Annotated[tuple[Held, ...], Meta(max_length=20_000)] = ()
    """Cancellations that the agent knows of: they do not end the long-poll again."""
    draining: bool = False
    """The agent knows that it shall drain."""
    flush_ms: int | UnsetType | None = UNSET
    """The wish that the agent follows: another one ends the long-poll. Unset: none does."""
    wait: Annotated[float, Meta(ge=0, le=60)] = 0
    """Seconds to be parked when there is nothing to tell; at most a third of the lease is used."""
    closing: bool = False
    """The agent goes away: the session ends at once, and what it still holds is lost."""
    replaced: bool = False
    """With `closing`: its agent is dead, the one that took over says so."""


class BeatReply(Struct, frozen=True, kw_only=True):
    """What the agent shall do."""

    lease_s: float
    """The session lives this long after the sending of the request: only a committed renewal
    counts."""
    cancel: tuple[Held, ...] = ()
    """Cancelled by a person, or no longer owned by this session: end it either way."""
    redeliver: tuple[ClaimedTask, ...] = ()
    """Owned by this session and not in `held`: the reply to its claim was lost."""
    drain: bool = False
    """A person wants the agent to take nothing more, finish what it runs, and end."""
    flush_ms: int | None = None
    """How long output may wait in the agent; null: as long as the agent's own setting says."""


class DrainAsked(Struct, frozen=True):
    """Answer to `POST /agents/{name}/drain`."""

    agents: int
    """Live agents of that name. Each takes nothing more, finishes what it runs, and ends."""


class Agent(Struct, frozen=True, kw_only=True):
    """A session as people see it. Its id stays with the agent."""

    agent: str
    labels: tuple[str, ...]
    slots: int
    running: int
    version: str
    alive: bool
    drain: bool
    opened_at: datetime
    seen_at: datetime
    ended_at: datetime | None = None
