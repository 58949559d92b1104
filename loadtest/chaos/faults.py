"""Puts the faults of a plan into a rig, each at its time, several at once."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from loadtest.chaos import ways_agents, ways_links, ways_servers
from loadtest.chaos.happened import EVERYBODY, History
from loadtest.chaos.plan import KINDS, Fault, Target
from loadtest.chaos.programs import StuckError
from loadtest.chaos.rig import Rig

WAYS: Mapping[str, Callable[[Any, Fault], Awaitable[None]]] = {
    **ways_servers.WAYS,
    **ways_agents.WAYS,
    **ways_links.WAYS,
}
"""What puts each kind of fault into its target."""


class _Place(Struct, eq=False):
    """Something that faults can strike."""

    name: str
    whom: str
    """Whom it keeps from working: an agent, EVERYBODY, or nobody that is an agent."""
    thing: Any
    struck: bool = False


class Faults:
    """Where a target has a fault already, the next of its sort is struck instead."""

    def __init__(
        self,
        rig: Rig,
        history: History,
        clock: Callable[[], float],
        stuck: Callable[[str, str], None],
    ) -> None:
        """`stuck` hears which program did not end or start as it has to, and how."""
        self._history = history
        self._clock = clock
        self._stuck = stuck
        self._places = _places(rig)
        self.skipped: Counter[str] = Counter()
        """Faults that found nobody to strike, by kind."""

    async def run(self, plan: Sequence[Fault]) -> None:
        """Put in all of them; returns when the last one is over."""
        began_s = self._clock()
        async with asyncio.TaskGroup() as group:
            for fault in plan:
                await asyncio.sleep(began_s + fault.at_s - self._clock())
                group.create_task(self._strike(fault))

    async def _strike(self, fault: Fault) -> None:
        place = self._choose(fault)
        if place is None:
            self.skipped[fault.kind] += 1
            return
        place.struck = True
        event = self._history.begin(
            fault.kind,
            place.name,
            place.whom,
            self._clock(),
            cuts_off=KINDS[fault.kind].cuts_off,
        )
        try:
            await WAYS[fault.kind](place.thing, fault)
        except StuckError as error:
            self._stuck(error.name, error.what)
        finally:
            place.struck = False
            event.ended_s = self._clock()

    def _choose(self, fault: Fault) -> _Place | None:
        places = self._places[KINDS[fault.kind].target]
        if fault.kind == "disk full":
            places = [place for place in places if place.thing.disk.mounted]
        if not places:
            return None
        first = fault.which % len(places)
        return next((one for one in places[first:] + places[:first] if not one.struck), None)


def _places(rig: Rig) -> dict[Target, list[_Place]]:
    return {
        "server": [_Place(each.name, EVERYBODY, each) for each in rig.servers],
        "agent": [_Place(each.name, each.name, each) for each in rig.agents],
        "database": [_Place("PostgreSQL", EVERYBODY, rig.database)],
        "link": [
            *(_Place(f"link of {each.name}", each.name, each.link) for each in rig.agents),
            *(_Place(f"link of {each.name}", EVERYBODY, each.link) for each in rig.servers),
            _Place("link of people", "", rig.people),
        ],
    }
