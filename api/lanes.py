"""The lanes that this process knows: few, cached, never deleted."""

from collections.abc import Iterable

from api.database import Database
from api.store import lanes as store
from api.store.lanes import Needs


class TooManyLanesError(Exception):
    """The submission needs more distinct sets of labels than the setting allows."""


class Lanes:
    """Lane numbers by needs, and the lanes that an agent's labels select."""

    def __init__(self, database: Database, most: int) -> None:
        self._database = database
        self._most = most
        self._lanes: dict[Needs, int] = {}

    @property
    def count(self) -> int:
        """How many are known; a change means that selections are out of date."""
        return len(self._lanes)

    @property
    def numbers(self) -> list[int]:
        """All that are known."""
        return list(self._lanes.values())

    @property
    def plain(self) -> tuple[int, ...]:
        """The lane of tasks that need nothing, if there was one: what no label at all selects."""
        lane = self._lanes.get(())
        return () if lane is None else (lane,)

    def knows(self, lanes: Iterable[int]) -> bool:
        """Whether all these numbers are known."""
        return set(lanes) <= set(self._lanes.values())

    async def refresh(self) -> None:
        """Read all lanes again."""
        async with self._database.acquire() as connection:
            self._lanes |= await store.all_lanes(connection)

    async def resolve(self, wanted: set[Needs]) -> dict[Needs, int]:
        """Numbers of these lanes; makes those that are missing. TooManyLanesError."""
        if missing := wanted - self._lanes.keys():
            async with self._database.acquire() as connection:
                self._lanes |= await store.all_lanes(connection)
                missing = wanted - self._lanes.keys()
                if len(self._lanes) + len(missing) > self._most:
                    raise TooManyLanesError
                if missing:
                    await store.add_lanes(connection, missing)
                    self._lanes |= await store.all_lanes(connection)
        return {needs: self._lanes[needs] for needs in wanted}

    def selected_by(self, labels: Iterable[str]) -> tuple[int, ...]:
        """Lanes whose needs the labels cover, sorted."""
        have = frozenset(labels)
        return tuple(sorted(lane for needs, lane in self._lanes.items() if have.issuperset(needs)))
