"""What was done to the system, and when: what excuses the loss of a task, and what does not. Pure.

All times are of the boot clock.
"""

from collections import Counter
from collections.abc import Iterable, Iterator

from msgspec import Struct, field

EVERYBODY = "everybody"
"""Stands for all agents: it struck a server, the database, or the machine that all this runs on."""


class Happened(Struct):
    """One fault that was put in, or trouble that came by itself."""

    kind: str
    where: str
    """Name of the machine or link."""
    whom: str
    """Name of the agent that it concerns, or EVERYBODY."""
    began_s: float
    ended_s: float = float("inf")
    cuts_off: bool = True
    """It may keep an agent from the API, or the API from the database."""
    planned: bool = True


class History(Struct):
    """All that happened, in the order of its beginning."""

    events: list[Happened] = field(default_factory=list)

    def begin(self, kind: str, where: str, whom: str, now_s: float, **more: bool) -> Happened:
        """Note something; its end is to be noted in what this gives."""
        event = Happened(kind, where, whom, now_s, **more)
        self.events.append(event)
        return event

    def counts(self) -> Counter[str]:
        """Planned faults by kind."""
        return Counter(event.kind for event in self.events if event.planned)

    def near(self, since_s: float, until_s: float) -> Iterator[Happened]:
        """What was going on then."""
        return (
            event for event in self.events if event.began_s <= until_s and event.ended_s >= since_s
        )

    def disturbed_s(self, agent: str, since_s: float, until_s: float) -> float:
        """Seconds of that time in which something may have cut an agent off."""
        spans = sorted(
            (max(event.began_s, since_s), min(event.ended_s, until_s))
            for event in self.near(since_s, until_s)
            if event.cuts_off and event.whom in (agent, EVERYBODY)
        )
        return sum(end - start for start, end in _joined(spans))

    def calm_s(self, agent: str, since_s: float, until_s: float) -> float:
        """From when on nothing concerned an agent any more, in that time."""
        near = self.near(since_s, until_s)
        ends = (event.ended_s for event in near if event.whom in (agent, EVERYBODY))
        return max(ends, default=since_s)

    def struck(
        self, kinds: Iterable[str], whom: str, since_s: float, until_s: float, least_s: float = 0
    ) -> bool:
        """Whether one of these was going on then, that lasted so long."""
        wanted = frozenset(kinds)
        return any(
            event.kind in wanted and event.whom == whom and event.ended_s - event.began_s >= least_s
            for event in self.near(since_s, until_s)
        )


def _joined(spans: Iterable[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Spans in the order of their starts; those that overlap are one."""
    current: tuple[float, float] | None = None
    for start, end in spans:
        if current is not None and start <= current[1]:
            current = (current[0], max(current[1], end))
            continue
        if current is not None:
            yield current
        current = (start, end)
    if current is not None:
        yield current
