"""Tasks that somebody watches, at any process: only they cost a notice, and flush early. No I/O.

Each process announces its own every few seconds, and all of them believe it for some time. So
nobody need say that a watching is over, a process that dies is forgotten, and somebody who loads
a page again makes no agent change its pace twice.
"""

from collections.abc import Callable, Collection, Iterable

from msgspec import Struct

ANNOUNCE_S = 3.0
BELIEVE_S = 10.0  # two announcements may be lost
FLUSH_MS = 250


class Watch(Struct, frozen=True, array_like=True, gc=False):
    """Somebody watches a task."""

    task: int
    session: int
    """Who runs it; 0: nobody does."""


class Watched:
    """What all processes announced, as far as it is still believed."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._tasks: dict[int, float] = {}
        self._sessions: dict[int, float] = {}

    def __bool__(self) -> bool:
        return bool(self._tasks)

    def among(self, tasks: Iterable[int]) -> set[int]:
        """Those that somebody watches."""
        return {task for task in tasks if task in self._tasks} if self._tasks else set()

    def flush_ms(self, session: int) -> int | None:
        """How long output of that agent may wait; None: as long as it likes."""
        return FLUSH_MS if session in self._sessions else None

    def hear(self, watches: Collection[Watch]) -> set[int]:
        """Believe an announcement; gives the sessions for which that is new."""
        until = self._clock() + BELIEVE_S
        self._tasks.update((each.task, until) for each in watches)
        sessions = {each.session for each in watches if each.session}
        new = sessions - self._sessions.keys()
        self._sessions.update(dict.fromkeys(sessions, until))
        return new

    def forget(self) -> set[int]:
        """Drop what was not announced again; gives the sessions that nobody watches any more."""
        now = self._clock()
        for task in [task for task, until in self._tasks.items() if until < now]:
            del self._tasks[task]
        over = {session for session, until in self._sessions.items() if until < now}
        for session in over:
            del self._sessions[session]
        return over
