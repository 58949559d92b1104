"""Who waits for tasks, and the statement that serves them together.

Waiters stand in one queue for each selection of lanes. One claimer serves a queue with one
statement for all who wait in it: places are dealt out in turn, so that a few tasks reach many
agents. A waiter registers before it looks, so no wake-up is lost, and every queue is looked at
again within a jittered second, so a lost notice costs no more than that.
"""

import asyncio
import logging
import random
from collections import OrderedDict
from collections.abc import Iterable
from itertools import islice
from operator import itemgetter

from api.database import Database
from api.lanes import Lanes
from api.metrics import CLAIMED
from api.notices import Notices
from api.sessions import Session
from api.store import claims as store
from api.store import results
from api.store.claims import Claimed
from api.store.results import Ended

LaneSet = tuple[int, ...]

_MOST_ROWS = 256
_LOOK_AGAIN_S = (0.75, 1.25)
_NEIGHBOUR_S = (0.005, 0.015)
_NEIGHBOUR_TRIES = 3
_log = logging.getLogger(__name__)


class Waiter:
    """One request for tasks."""

    def __init__(self, session: Session | None, slots: int, *, parked: bool) -> None:
        self.session = session
        self.slots = slots
        self.parked = parked
        """Stays when there is nothing."""
        self.lanes: LaneSet = ()
        self.served = False
        """A statement that may give it tasks is under way."""
        self.tasks: asyncio.Future[list[Claimed]] = asyncio.get_running_loop().create_future()

    @property
    def number(self) -> int | None:
        """Row of the session; None for an agent of the compatible routes."""
        return None if self.session is None else self.session.number

    def answer(self, tasks: list[Claimed]) -> None:
        """End the wait."""
        if not self.tasks.done():
            self.tasks.set_result(tasks)

    def fail(self, error: Exception) -> None:
        """End the wait without an answer."""
        if not self.tasks.done():
            self.tasks.set_exception(error)


class Claims:
    """Gives pending tasks to those who wait for them."""

    def __init__(self, database: Database, lanes: Lanes, notices: Notices) -> None:
        self._database = database
        self._lanes = lanes
        self._lane_count = lanes.count
        self._notices = notices
        self._queues: dict[LaneSet, OrderedDict[Waiter, None]] = {}
        self._hungry: dict[LaneSet, None] = {}
        self._short: dict[LaneSet, int] = {}
        self._returned: list[Ended] = []
        self._work = asyncio.Event()
        self._by_session: dict[int, Waiter] = {}
        self._stopping = False

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return sum(len(queue) for queue in self._queues.values())

    async def take(self, session: Session | None, slots: int, wait_s: float) -> list[Claimed]:
        """Up to `slots` tasks for a session (None: no labels, no session), maybe after a wait.

        When the caller is cancelled because its client went away, what it was given goes back.
        """
        waiter = Waiter(session, slots, parked=wait_s > 0 and not self._stopping)
        if session is not None:
            if older := self._by_session.get(session.number):
                self._leave(older)
            self._by_session[session.number] = waiter
        self._join(waiter)
        try:
            await asyncio.wait([waiter.tasks], timeout=wait_s or None)
            if waiter.served and not waiter.tasks.done():
                await asyncio.wait([waiter.tasks])
            return waiter.tasks.result() if waiter.tasks.done() else []
        except asyncio.CancelledError:
            if not waiter.tasks.cancel() and waiter.tasks.exception() is None:
                self._give_back(waiter, waiter.tasks.result())
            raise
        finally:
            self._leave(waiter)

    def wake(self, lanes: Iterable[int]) -> None:
        """These lanes have new pending tasks."""
        self._regroup()
        new = frozenset(lanes)
        known = self._lanes.knows(new)  # else a neighbour made one: it is read in a moment
        for selection in self._queues:
            if not known or not new.isdisjoint(selection):
                self._look(selection)

    def wake_all(self) -> None:
        """Any lane may have new pending tasks."""
        self._regroup()
        for selection in self._queues:
            self._look(selection)

    def stop(self) -> None:
        """Park nobody any more: the server goes away."""
        self._stopping = True
        for queue in self._queues.values():
            for waiter in queue:
                waiter.parked = False
        self.wake_all()

    async def run(self) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._serve_all())
            group.create_task(self._look_again())

    def _look(self, lanes: LaneSet) -> None:
        self._hungry[lanes] = None
        self._work.set()

    def _join(self, waiter: Waiter) -> None:
        session = waiter.session
        waiter.lanes = (
            self._lanes.selected_by(()) if session is None else session.lanes(self._lanes)
        )
        self._queues.setdefault(waiter.lanes, OrderedDict())[waiter] = None
        self._look(waiter.lanes)

    def _leave(self, waiter: Waiter) -> None:
        waiter.answer([])
        if waiter.number is not None and self._by_session.get(waiter.number) is waiter:
            del self._by_session[waiter.number]
        queue = self._queues.get(waiter.lanes)
        if queue is not None:
            queue.pop(waiter, None)
            if not queue:
                del self._queues[waiter.lanes]

    def _regroup(self) -> None:
        """Lanes were made: what the waiters' labels select may have grown."""
        if self._lane_count != self._lanes.count:
            self._lane_count = self._lanes.count
            waiters = [waiter for queue in self._queues.values() for waiter in queue]
            self._queues = {}
            for waiter in waiters:
                self._join(waiter)

    def _give_back(self, waiter: Waiter, tasks: list[Claimed]) -> None:
        """Tasks that nobody took go back to their places in the queue."""
        self._returned += [
            Ended(
                task=task.id, attempt=task.attempt, session=waiter.number or 0,
                outcome="returned", reason="returned",
            )
            for task in tasks
        ]  # fmt: skip
        self._work.set()

    async def _look_again(self) -> None:
        while True:
            await asyncio.sleep(random.uniform(*_LOOK_AGAIN_S))  # noqa: S311 - jitter
            try:
                await self._lanes.refresh()
            except Exception as error:  # noqa: BLE001 - the database is away: the next round reads
                _log.warning("cannot read the lanes: %r", error)
            self._short.clear()
            self.wake_all()

    async def _serve_all(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            if self._returned:
                returned, self._returned = self._returned, []
                await self._return(returned)
            while self._hungry:
                lanes = next(iter(self._hungry))
                del self._hungry[lanes]
                await self._serve(lanes)

    async def _return(self, returned: list[Ended]) -> None:
        try:
            async with self._database.acquire() as connection, connection.transaction():
                changes = await results.finish_many(connection, returned, crash_limit=1)
        except Exception as error:  # noqa: BLE001 - their beats, or the reaper, find them
            _log.warning("cannot hand back %d tasks: %r", len(returned), error)
        else:
            self._notices.lanes_changed(each.lane for each in changes if each.status == "pending")

    async def _serve(self, lanes: LaneSet) -> None:
        """Fill the places of those who wait for the same lanes with one statement."""
        waiters = list(islice(self._queues.get(lanes, ()), _MOST_ROWS))
        if not waiters:
            return
        places = _deal(waiters)
        for waiter in waiters:
            waiter.served = True
        try:
            claimed = await self._claim(lanes, places)
        except Exception as error:  # noqa: BLE001 - those who wait must learn of it
            for waiter in waiters:
                waiter.fail(error)
            return
        finally:
            for waiter in waiters:
                waiter.served = False
        given: dict[Waiter, list[Claimed]] = {waiter: [] for waiter in waiters}
        for place, task in sorted(claimed, key=itemgetter(0)):
            given[places[place]].append(task)
        for waiter, tasks in given.items():
            self._hand_out(waiter, tasks)
        if len(claimed) == len(places):
            self._look(lanes)
        elif len(lanes) > 1:
            self._look_soon(lanes)

    async def _claim(self, lanes: LaneSet, places: list[Waiter]) -> list[tuple[int, Claimed]]:
        if not lanes:
            return []  # no task was ever submitted that these labels cover
        async with self._database.acquire() as connection:
            claimed = await store.claim_many(
                connection, lanes, [waiter.number for waiter in places]
            )
        CLAIMED.inc(len(claimed))
        return claimed

    def _hand_out(self, waiter: Waiter, tasks: list[Claimed]) -> None:
        if waiter.tasks.done():  # it went away meanwhile
            self._give_back(waiter, tasks)
        elif tasks or not waiter.parked:
            waiter.answer(tasks)
        if waiter.tasks.done():
            self._leave(waiter)

    def _look_soon(self, lanes: LaneSet) -> None:
        """A claim over several lanes came back short.

        Rows that a neighbour locked and did not take look like emptiness for a moment.
        """
        tries = self._short.get(lanes, 0)
        if tries < _NEIGHBOUR_TRIES:
            self._short[lanes] = tries + 1
            delay_s = random.uniform(*_NEIGHBOUR_S)  # noqa: S311 - jitter
            asyncio.get_running_loop().call_later(delay_s, self._look, lanes)


def _deal(waiters: list[Waiter]) -> list[Waiter]:
    """Places in turn: each waiter's first, then each one's second, up to its slots."""
    places: list[Waiter] = []
    turn = 0
    while waiters and len(places) < _MOST_ROWS:
        places += waiters[: _MOST_ROWS - len(places)]
        turn += 1
        waiters = [waiter for waiter in waiters if waiter.slots > turn]
    return places
