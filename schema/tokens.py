"""Tokens: who may speak to the API, and as what."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

Role = Literal["admin", "submit", "read", "agent"]
"""`read` looks at everything, `submit` also hands over, cancels and retries, `admin` may do all.
`agent` claims and reports, and sees nothing else."""

TokenName = Annotated[
    str, Meta(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]*$(?!\n)")
]
"""Names one token that lives. It stands in the audit, and in paths."""


class TokenNew(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /tokens`."""

    role: Role
    name: TokenName


class Login(Struct, frozen=True, kw_only=True):
    """The form of `POST /login`."""

    token: str


class Token(Struct, frozen=True, kw_only=True):
    """A token as the admin sees it: never its text."""

    name: str
    role: Role
    created_at: datetime
    created_by: str
    """The name of the token that made it."""
    used_at: datetime | None = None
    """Exact to a minute."""
    revoked_at: datetime | None = None


class TokenMade(Struct, frozen=True, kw_only=True):
    """The only answer that ever has the token itself: the server keeps a digest."""

    token: str
    name: str
    role: Role
