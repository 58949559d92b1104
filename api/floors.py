"""Where each queue begins: no claim starts below the floor of its lane and priority.

A claimed row leaves a dead entry at the front of the index. Vacuum removes it, unless some long
transaction may still see it: then each claim would walk over all that were claimed since. So a
claim starts at the last number that was claimed before it.

Lower numbers can still come: a transaction that drew its numbers earlier and commits later, a task
that is handed back to its place. Whoever commits such tasks says so, and the floor goes down. What
nobody could say, because he died in between, is found by a look without floors about every second.
"""

from collections.abc import Iterable, Sequence

from api.store.tasks import Queued

Pair = tuple[int, int]
"""(lane, priority)"""


class Look:
    """One look at the queues that is under way, and what was queued since it began."""

    def __init__(self) -> None:
        self.queued: dict[Pair, int] = {}


class Floors:
    """The lowest number that may be pending, for each lane and priority that had a task."""

    def __init__(self) -> None:
        self._floors: dict[int, dict[int, int]] = {}
        self._looks: set[Look] = set()

    def of(self, lanes: Iterable[int]) -> list[Queued]:
        """Where to look for tasks of these lanes."""
        return [
            Queued(lane, priority, floor)
            for lane in lanes
            for priority, floor in self._floors.get(lane, {}).items()
        ]

    def lower(self, queued: Iterable[Queued]) -> None:
        """Tasks were queued, committed."""
        for each in queued:
            pair = (each.lane, each.priority)
            floors = self._floors.setdefault(each.lane, {})
            floors[each.priority] = min(floors.get(each.priority, each.queue_seq), each.queue_seq)
            for look in self._looks:
                look.queued[pair] = min(look.queued.get(pair, each.queue_seq), each.queue_seq)

    def begin(self) -> Look:
        """A look at the queues begins; `end` must follow."""
        look = Look()
        self._looks.add(look)
        return look

    def end(self, look: Look, reached: Iterable[Queued]) -> None:
        """Raise floors to what the look reached, but not above what was queued since it began."""
        self._looks.discard(look)
        for each in reached:
            floors = self._floors.setdefault(each.lane, {})
            since = look.queued.get((each.lane, each.priority), each.queue_seq)
            floors[each.priority] = min(max(floors.get(each.priority, 0), each.queue_seq), since)

    def fail(self, look: Look, places: Sequence[Queued]) -> None:
        """Nobody knows how far the look came: what it may have held is pending again."""
        self._looks.discard(look)
        self.lower(Queued(each.lane, each.priority, 0) for each in places)
