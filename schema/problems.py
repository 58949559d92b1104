"""Errors on the wire: problem details, RFC 9457."""

from msgspec import Struct


class Problem(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Sent as `application/problem+json` with every status of 400 and above."""

    status: int
    title: str
    """The same for every problem of its kind."""
    detail: str
    """What was wrong here, and what to do about it."""
    type: str = "about:blank"
    retry_after: float | None = None
    """Seconds; also in the header `Retry-After`."""
