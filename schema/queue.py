"""`GET /queue`: what waits."""

from datetime import datetime

from msgspec import Struct


class QueueLane(Struct, frozen=True, kw_only=True):
    """Pending tasks with the same needs."""

    needs: tuple[str, ...]
    pending: int
    oldest: datetime
    """When the one that is claimed next was submitted."""


class Queue(Struct, frozen=True, kw_only=True):
    """Tasks that have not ended."""

    pending: int
    scheduled: int
    in_progress: int
    lanes: tuple[QueueLane, ...]
    """Those where something is pending, the longest first, at most 200."""
