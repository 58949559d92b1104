"""Who waits for tasks, and the statement that serves them together.

Waiters stand in one line for each selection of lanes. One statement serves a line's waiters
together: places are dealt out in turn, so that a few tasks reach many agents. Two statements are
under way at a time, so that one works while the other waits for the disk: 8,600 single pulls a
second instead of 4,900 where others wrote to that disk, 16,000 with one or two where it was free.

A waiter registers before it looks, so no wake-up is lost, and every line looks again within a
jittered second, so a lost notice costs no more than that.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import NamedTuple

from api.database import Database, Kept
from api.floors import Floors
from api.lanes import Lanes
from api.lines import Lines
from api.metrics import CLAIMED
from api.notices import Notices
from api.session import Session
from api.store import claims as store
from api.store.claims import Claimed
from api.store.tasks import Queued
from api.waiters import MOST_ROWS, LaneSet, Line, Waiter, deal, deal_slots

Watched = Callable[[Coroutine[None, None, list[Claimed]]], Awaitable[list[Claimed]]]

_STATEMENTS = 2
_LOOK_AGAIN_S = (0.75, 1.25)
_HEADS_SHARE = 20  # at most one part in so many of the time goes to looks without floors
_NEIGHBOUR_S = (0.005, 0.015)
_NEIGHBOUR_TRIES = 3
_log = logging.getLogger(__name__)


class Loan(NamedTuple):
    """Waiters that are about to be given new tasks; `Claims.settle` must follow."""

    places: list[Waiter]
    """Who is to have the first task, the second, and so on: perhaps fewer than there are tasks."""
    lines: list[tuple[LaneSet, Line, list[Waiter]]]


class Claims:
    """Gives pending tasks to those who wait for them."""

    def __init__(self, database: Database, lanes: Lanes, notices: Notices) -> None:
        self._database = database
        self._lanes = lanes
        self._lane_count = lanes.count
        self._notices = notices
        self._floors = Floors()
        self._lines = Lines()
        self._read_lanes = asyncio.Event()
        self._by_session: dict[int, Waiter] = {}
        self._stopping = False

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return len(self._lines)

    async def take(
        self,
        session: Session | None,
        slots: int,
        wait_s: float,
        *,
        ahead: int = 0,
        watched: Watched | None = None,
    ) -> list[Claimed]:
        """Tasks for a session (None: no labels, no session), maybe after a wait.

        Up to `slots`, and up to `ahead` more of what nobody else who waits has a slot for.

        `watched` awaits a wait for `take`, and cancels it where the client goes away. What a
        statement that is under way gives it then stays with the session, whose beat delivers it. It
        is never taken back: the beat may have been answered, and the task may run.
        """
        patient = wait_s > 0 and not self._stopping
        waiter = Waiter(session, self._select(session), slots=slots, ahead=ahead, patient=patient)
        if session is not None:
            if older := self._by_session.get(session.number):
                self._leave(older)
            self._by_session[session.number] = waiter
        first = waiter.turn
        self._lines.join(waiter)
        try:
            tasks = await first
            if tasks is None:
                wait = self._wait(waiter, wait_s)
                tasks = await (wait if watched is None else watched(wait))
            return tasks
        finally:
            self._leave(waiter)

    async def _wait(self, waiter: Waiter, wait_s: float) -> list[Claimed]:
        """Wait, parked, for the turn that brings something, or for the end of the time."""
        timer = asyncio.get_running_loop().call_later(wait_s, self._lose_patience, waiter)
        try:
            return await waiter.turn or []
        finally:
            timer.cancel()

    def _lose_patience(self, waiter: Waiter) -> None:
        waiter.patient = False
        if not waiter.served:
            self._leave(waiter)

    def wake(self, queued: Sequence[Queued]) -> None:
        """Tasks are pending."""
        self._floors.lower(queued)
        self._regroup()
        new = {each.lane for each in queued}
        if not self._lanes.knows(new):
            self._read_lanes.set()  # a neighbour made one
        self._lines.wake(new)

    def wake_all(self) -> None:
        """Anything may be pending."""
        self._regroup()
        self._lines.wake()

    def end(self, sessions: Iterable[int]) -> None:
        """These have ended against their agents' will: who waits for them is given nothing."""
        for number in sessions:
            if waiter := self._by_session.get(number):
                self._leave(waiter)

    def stop(self) -> None:
        """Park nobody any more: the server goes away. Who is in a statement is answered by that."""
        self._stopping = True
        for waiter in self._lines:
            self._leave(waiter)

    def _select(self, session: Session | None) -> LaneSet:
        return self._lanes.plain if session is None else session.lanes(self._lanes)

    def _leave(self, waiter: Waiter) -> None:
        if waiter.number is not None and self._by_session.get(waiter.number) is waiter:
            del self._by_session[waiter.number]
        self._lines.leave(waiter)

    def _regroup(self) -> None:
        if self._lane_count != self._lanes.count:
            self._lane_count = self._lanes.count
            self._lines.regroup(lambda waiter: self._select(waiter.session))

    async def find_heads(self) -> list[Queued]:
        """Look at all queues without floors; returns where those begin that are not empty."""
        look = self._floors.begin()
        heads: list[Queued] = []
        try:
            await self._lanes.refresh()
            async with self._database.acquire() as connection:
                heads = await store.queue_heads(connection, self._lanes.numbers)
        finally:
            self._floors.end(look, heads)
        return heads

    async def run(self) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look_again())
            for _ in range(_STATEMENTS):
                group.create_task(self._serve_all())

    async def _look_again(self) -> None:
        """Wake the lines that have pending tasks, without anybody's notice.

        One statement for all lines: a thousand agents with labels of their own must not make a
        thousand looks a second at queues that are empty.
        """
        while True:
            pause_s = random.uniform(*_LOOK_AGAIN_S)  # noqa: S311 - jitter
            self._read_lanes.clear()
            try:
                began = time.monotonic()
                heads = await self.find_heads()
                pause_s = max(pause_s, (time.monotonic() - began) * _HEADS_SHARE)
                self.wake(heads)
            except Exception as error:  # noqa: BLE001 - the database is away: the next round looks
                _log.warning("cannot read the queues: %r", error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._read_lanes.wait()

    async def _serve_all(self) -> None:
        kept = self._database.kept()
        try:
            while True:
                found = self._lines.hungry_now()
                if found is None:
                    await kept.give_back()
                    found = await self._lines.hungry()
                await self._serve(kept, *found)
        finally:
            await kept.give_back()

    async def _serve(self, kept: Kept, lanes: LaneSet, line: Line) -> None:
        """Fill the places of those who wait for the same lanes with one statement."""
        waiters = line.take(line.most)
        if not waiters:
            return
        places = deal(waiters, line.most)
        line.begin(waiters)
        claimed: list[tuple[int, Queued, Claimed]] = []
        try:
            claimed = await self._claim(kept, lanes, places)
        except Exception as error:  # noqa: BLE001 - those who wait must learn of it
            for waiter in waiters:
                waiter.fail(error)
            await kept.give_back()
        finally:
            line.end(waiters)
        given: dict[Waiter, list[Claimed]] = {waiter: [] for waiter in waiters}
        for place, _, task in sorted(claimed, key=itemgetter(0)):
            given[places[place]].append(task)
        cut = len(claimed) == store.ALWAYS_FIT < len(places)  # or just so many are there
        line.most = 2 * len(claimed) if cut else min(2 * line.most, MOST_ROWS)
        if cut:  # there is more, also for who would not wait
            for waiter in [waiter for waiter, tasks in given.items() if not tasks]:
                del given[waiter]
                self._lines.join(waiter)
        self._answer(line, given)
        if cut or len(claimed) == len(places):
            line.woken = True  # there is more
        elif not line.woken and len(self._floors.of(lanes)) > 1:
            self._look_soon(lanes, line)
        self._lines.looked(lanes, line)
        if cut:
            await self._find_left(kept, lanes)

    async def _claim(
        self, kept: Kept, lanes: LaneSet, places: list[Waiter]
    ) -> list[tuple[int, Queued, Claimed]]:
        floors = self._floors.of(lanes)
        if not floors:
            return []  # no task was ever submitted that these labels cover
        look = self._floors.begin()
        try:
            connection = await kept.get()
            claimed = await store.claim_many(
                connection, floors, [waiter.number for waiter in places]
            )
        except BaseException:
            self._floors.fail(look, floors)
            raise
        self._floors.end(look, (place for _, place, _ in claimed))
        CLAIMED.inc(len(claimed))
        self._notices.tasks_moved(task.id for _, _, task in claimed)
        return claimed

    async def _find_left(self, kept: Kept, lanes: LaneSet) -> None:
        """Tell where queues begin of which a statement locked more than it took.

        Who passed by them meanwhile believes that the queue begins behind them.
        """
        try:
            heads = await store.queue_heads(await kept.get(), lanes)
        except Exception as error:  # noqa: BLE001 - the look of every second finds them, too
            _log.warning("cannot look at the queues: %r", error)
            await kept.give_back()
        else:
            self._notices.tasks_queued(heads)

    def lend(self, lane: int, most: int) -> Loan:
        """Find those who are parked in this process for tasks of a lane, about to be stored.

        Only free slots are filled: what could be claimed ahead may find one at a neighbour.
        """
        loan = Loan([], [])
        for lanes, line in self._lines.quiet(lane):
            waiters = line.lend(most)
            line.begin(waiters)
            loan.lines.append((lanes, line, waiters))
        waiters = [waiter for _, _, waiters in loan.lines for waiter in waiters]
        loan.places.extend(deal_slots(waiters, most))
        return loan

    def settle(self, loan: Loan, claimed: Sequence[Claimed | None]) -> None:
        """Answer with what was stored for each place; who got nothing is parked as before."""
        given: dict[Waiter, list[Claimed]] = {
            waiter: [] for _, _, waiters in loan.lines for waiter in waiters
        }
        for waiter, task in zip(loan.places, claimed, strict=False):
            if task is not None:
                given[waiter].append(task)
                CLAIMED.inc()
        for lanes, line, waiters in loan.lines:
            line.end(waiters)
            self._answer(line, {waiter: given[waiter] for waiter in waiters})
            self._lines.looked(lanes, line)

    def _answer(self, line: Line, given: Mapping[Waiter, list[Claimed]]) -> None:
        line.park([waiter for waiter, tasks in given.items() if not self._hand_out(waiter, tasks)])

    def _hand_out(self, waiter: Waiter, tasks: list[Claimed]) -> bool:
        """Answer a waiter; False if it is to be parked."""
        if waiter.gone:  # meanwhile: see take
            return True
        if tasks or not waiter.patient or self._stopping:
            waiter.answer(tasks)
        elif (lanes := self._select(waiter.session)) != waiter.lanes:
            waiter.lanes = lanes
            self._lines.join(waiter)
        else:
            return False
        return True

    def _look_soon(self, lanes: LaneSet, line: Line) -> None:
        """A claim over several queues came back short.

        Those that a neighbour took at that moment counted as its share of their queue.
        """
        if line.tries < _NEIGHBOUR_TRIES:
            line.tries += 1
            delay_s = random.uniform(*_NEIGHBOUR_S)  # noqa: S311 - jitter
            asyncio.get_running_loop().call_later(delay_s, self._lines.wake_again, lanes)
