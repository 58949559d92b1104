"""Requests for tasks that wait, in lines; no I/O."""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from api.session import Session
from api.store.claims import Claimed

LaneSet = tuple[int, ...]

MOST_ROWS = 1000
"""That one statement claims."""


class Waiter:
    """One request for tasks. It looks once, together with others, and is parked if it may wait."""

    def __init__(
        self,
        session: Session | None,
        lanes: LaneSet,
        *,
        slots: int,
        ahead: int,
        patient: bool,
    ) -> None:
        self.session = session
        self.slots = slots
        self.ahead = ahead
        self.lanes = lanes
        self.patient = patient
        """Stays when there is nothing."""
        self.served = False
        """A statement that may give it tasks is under way: it stands in no line."""
        self._parked = False
        self.turn = _future()
        """Tasks, or None where it was parked: then the next turn is to be awaited."""

    @property
    def number(self) -> int | None:
        """Row of the session; None for an agent of the compatible routes."""
        return None if self.session is None else self.session.number

    @property
    def gone(self) -> bool:
        """Whether it was answered, or its client went away."""
        return self.turn.done()

    def answer(self, tasks: list[Claimed]) -> None:
        """End the wait."""
        if not self.turn.done():
            self.turn.set_result(tasks)

    def fail(self, error: Exception) -> None:
        """End the wait without an answer."""
        if not self.turn.done():
            self.turn.set_exception(error)

    def leave(self) -> None:
        """Nobody waits any more; an error that came too late is noted as seen."""
        if not self.turn.done():
            self.turn.set_result([])
        elif not self.turn.cancelled():
            self.turn.exception()

    def park(self) -> None:
        """Let it know, once, that it waits for a later turn."""
        if not self._parked:
            self._parked = True
            turn, self.turn = self.turn, _future()
            turn.set_result(None)


def _future() -> "asyncio.Future[list[Claimed] | None]":
    return asyncio.get_running_loop().create_future()


class Line:
    """Waiters whose labels select the same lanes.

    New ones look for themselves. Those who looked and found nothing are parked, and look again,
    the oldest first, when the line is woken: a newcomer must not make thousands look.
    """

    def __init__(self) -> None:
        self._new: OrderedDict[Waiter, None] = OrderedDict()
        self._parked: OrderedDict[Waiter, None] = OrderedDict()
        self.served = 0
        """Statements under way for it."""
        self.woken = False
        """There may be tasks that no statement for this line has seen."""
        self.most = MOST_ROWS
        """Places that the next statement fills: fewer for a while after one met large tasks."""
        self.tries = 0
        """Looks since the last wake-up because a neighbour may have hidden something."""

    def __len__(self) -> int:
        return len(self._new) + len(self._parked)

    def __iter__(self) -> Iterator[Waiter]:
        yield from self._parked
        yield from self._new

    @property
    def hungry(self) -> bool:
        """Whether somebody should look."""
        return bool(self._new) or (self.woken and bool(self._parked))

    @property
    def quiet(self) -> bool:
        """Whether others looked, found nothing, and nothing was heard of since.

        Of ten thousand idle agents some hundred ask anew in a second: they need not look.
        """
        return bool(self._parked) and not (self._new or self.woken or self.served)

    def add(self, waiter: Waiter) -> None:
        """A newcomer."""
        self._new[waiter] = None

    def remove(self, waiter: Waiter) -> None:
        """Somebody leaves, if he is here."""
        self._new.pop(waiter, None)
        self._parked.pop(waiter, None)

    def clear(self) -> None:
        """All leave."""
        self._new.clear()
        self._parked.clear()

    def take(self, most: int) -> list[Waiter]:
        """Those who look next: out of the line until they have an answer, or go back."""
        taken: list[Waiter] = []
        if self.woken:
            self.woken = False
            _take(self._parked, taken, most)
        _take(self._new, taken, most)
        return taken

    def lend(self, most: int) -> list[Waiter]:
        """Parked ones, the oldest first, who leave until they have an answer, or go back."""
        taken: list[Waiter] = []
        _take(self._parked, taken, most)
        return taken

    def begin(self, waiters: Iterable[Waiter]) -> None:
        """A statement for some who were taken is under way."""
        self.served += 1
        for waiter in waiters:
            waiter.served = True

    def end(self, waiters: Iterable[Waiter]) -> None:
        """It is over."""
        self.served -= 1
        for waiter in waiters:
            waiter.served = False

    def park_last(self, waiter: Waiter) -> None:
        """A newcomer that need not look."""
        waiter.park()
        self._parked[waiter] = None

    def park(self, waiters: list[Waiter]) -> None:
        """Found nothing: back to the front, in their order."""
        for waiter in reversed(waiters):
            waiter.park()
            self._parked[waiter] = None
            self._parked.move_to_end(waiter, last=False)


def _take(waiters: OrderedDict[Waiter, None], taken: list[Waiter], most: int) -> None:
    """Move the first ones, but for those who went away and have not left the line yet.

    A task that such a one was given would lie with its session until a beat compares.
    """
    while waiters and len(taken) < most:
        waiter, _ = waiters.popitem(last=False)
        if not waiter.gone:
            taken.append(waiter)


def deal(waiters: Sequence[Waiter], most: int) -> list[Waiter]:
    """Places in turn: each waiter's first free slot, then each one's second, and so on.

    What they would take ahead comes after all free slots, in turn too.
    """
    places = deal_slots(waiters, most)
    ahead = _in_turn([(each, each.ahead) for each in waiters if each.ahead])
    return places + list(islice(ahead, most - len(places)))


def deal_slots(waiters: Sequence[Waiter], most: int) -> list[Waiter]:
    """Places in turn, of free slots only."""
    return list(islice(_in_turn([(each, each.slots) for each in waiters]), most))


def _in_turn(shares: list[tuple[Waiter, int]]) -> Iterator[Waiter]:
    turn = 0
    while shares := [(waiter, share) for waiter, share in shares if share > turn]:
        yield from (waiter for waiter, _ in shares)
        turn += 1
