"""One live session, as a process knows it."""

import asyncio
from http import HTTPStatus

from api.lanes import Lanes
from api.problems import ProblemError


class SessionGoneError(ProblemError):
    """No live session has that id."""

    def __init__(self) -> None:
        super().__init__(HTTPStatus.GONE, "no live session has this id: open a new one")


class Session:
    """One live session as this process knows it."""

    def __init__(self, number: int, labels: tuple[str, ...], token: str | None) -> None:
        self.number = number
        self.labels = labels
        self.token = token
        """Name of the token that it is bound to."""
        self.drain = False
        """What the last look knew: a renewal that knows otherwise makes its beat look again."""
        self.renewed_at = 0.0
        """Loop time of a moment not after the last committed renewal."""
        self.touched = False
        self.wake = asyncio.Event()
        self._lanes: tuple[int, ...] = ()
        self._lanes_known = -1

    def lanes(self, lanes: Lanes) -> tuple[int, ...]:
        """Lanes that its labels select, looked up again when lanes were made."""
        if self._lanes_known != lanes.count:
            self._lanes = lanes.selected_by(self.labels)
            self._lanes_known = lanes.count
        return self._lanes
