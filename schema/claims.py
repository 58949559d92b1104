"""`POST /claims`: an agent takes tasks."""

from typing import Annotated

from msgspec import Meta, Struct

from schema.tasks import Isolation

MAX_CLAIMED = 1000
"""Free slots, and tasks ahead, that one request may name."""

SessionId = Annotated[str, Meta(max_length=100)]
"""Given by the server, and known to one agent alone."""


class ClaimRequest(Struct, frozen=True):
    """A session has one such request under way; a newer one ends the older one empty."""

    session: SessionId
    slots: Annotated[int, Meta(ge=0, le=MAX_CLAIMED)] = 1
    """The most tasks that could start at once."""
    wait: Annotated[float, Meta(ge=0, le=60)] = 0
    """Seconds to be parked while there is nothing."""
    ahead: Annotated[int, Meta(ge=0, le=MAX_CLAIMED)] = 0
    """The most tasks beyond those, of what nobody has a free slot for."""


class ClaimedTask(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an agent needs to run one attempt. Fields may join: agents ignore unknown ones."""

    id: int
    attempt: int
    lease: str
    command: str
    env: dict[str, str] | None = None
    cwd: str | None = None
    timeout: float | None = None
    no_output_timeout: float | None = None
    exclusive: bool = False
    secrets: dict[str, str] | None = None
    """Variables whose values must get nowhere else: not into the log, nor onto the disk."""
    isolation: Isolation = "none"
    """At least."""
    image: str | None = None


class ClaimReply(Struct, frozen=True):
    """At most `slots` + `ahead` tasks; none when the wait is over."""

    tasks: tuple[ClaimedTask, ...]


class PulledTask(Struct, frozen=True):
    """Answer of the compatible `POST /tasks/pull`."""

    id: int
    command: str
