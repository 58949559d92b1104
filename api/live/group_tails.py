"""A group that is watched at this process: its members, and what changes with them."""

import asyncio
from bisect import bisect_left, insort
from collections import Counter, deque
from collections.abc import Iterable, Iterator

from api.live import events
from api.live.bell import Bell
from api.live.group_positions import GroupPosition
from api.live.service import Live
from api.live.steps import Streams
from api.live.tails import Tail
from api.positions import Position
from api.store.live import Member
from schema.logs import GroupNow, TaskNow
from schema.tasks import FINAL, Status

MAX_TASKS = 10_000
_KEPT_NEWS = 1000
_FIRST_LOOK_S = 10.0


class GroupTail:
    """One watched group. What of it runs, or has just changed, is watched as a task is."""

    def __init__(self, name: str, live: Live, work: asyncio.Event, states: Iterator[int]) -> None:
        """`work` wakes those who look; `states` never gives a number twice."""
        self.name = name
        self._work = work
        self._states = states
        self.state = next(states)
        """Another number whenever a member changes: what was told of it may be no more."""
        self.live = live
        self.holders = 0
        self.left_at = 0.0
        self.looked_at = 0.0
        """Loop time."""
        self.looked = Bell()
        self.due = False
        self.next_look_at = 0.0
        self.members: dict[int, Member] = {}
        self.ids: list[int] = []
        self.started: list[int] = []
        """Members of which there is something to tell, or was."""
        self.run_again: set[int] = set()
        """Members that had ended once."""
        self.counts: Counter[Status] = Counter()
        self.tails: dict[int, Tail] = {}
        self.told: dict[int, TaskNow] = {}
        self.news: deque[tuple[int, bytes]] = deque(maxlen=_KEPT_NEWS)
        """Numbered `status` events."""
        self.bell = Bell()

    @property
    def too_many(self) -> bool:
        """Whether there are more members than can be watched."""
        return len(self.members) > MAX_TASKS

    @property
    def over(self) -> bool:
        """Whether all members have ended."""
        return sum(self.counts[status] for status in FINAL) == len(self.members)

    @property
    def now(self) -> GroupNow:
        """How many tasks stand where."""
        counts = {status: count for status, count in sorted(self.counts.items()) if count}
        return GroupNow(name=self.name, total=len(self.members), counts=counts)

    def around(self, task: int) -> tuple[int | None, int | None]:
        """The members before and after one."""
        at = bisect_left(self.ids, task)
        before = self.ids[at - 1] if at else None
        return before, self.ids[at + 1] if at + 1 < len(self.ids) else None

    def look_soon(self) -> None:
        """Let it be looked at."""
        self.due = True
        self._work.set()

    async def known(self, *, freshly: bool = False) -> bool:
        """Wait until it was looked at, and what of it runs; whether it has tasks.

        TimeoutError without a database. `freshly`: in a look that has not begun yet.
        """
        since = asyncio.get_running_loop().time() if freshly else 0.0
        if freshly:
            self.look_soon()
        async with asyncio.timeout(_FIRST_LOOK_S):
            while not self.looked_at or self.looked_at < since:
                await self.looked.wait(self.looked.rung)
            for tail in list(self.tails.values()):
                await self.live.known(tail)
        return bool(self.members)

    def all_told(self, position: GroupPosition) -> bool:
        """Whether there is nothing more to tell behind a position, and never will be."""
        return self.over and position.known == len(self.members) and not position.within

    def update(self, members: Iterable[Member], began: float) -> None:
        """Take what a look saw; `began`: its loop time."""
        first = not self.looked_at
        self.looked_at = began
        self.looked.ring()
        changed = False
        for member in members:
            before = self.members.get(member.task)
            if member == before:
                continue
            changed = True
            if before is None:
                insort(self.ids, member.task)
            if member.status == "in_progress" or not first:
                self._hold(member.task)
                self.live.moved([member.task])
            self._set(member, before)
        for task, tail in list(self.tails.items()):
            member, now = self.members[task], tail.now
            if now and now.status == member.status != "in_progress" and now == self.told.get(task):
                self._release(task)
        if changed:
            self.bell.ring()

    def _set(self, member: Member, before: Member | None) -> None:
        self.state = next(self._states)
        self.members[member.task] = member
        self.counts[member.status] += 1
        if before is not None:
            self.counts[before.status] -= 1
            if before.status in FINAL:
                self.run_again.add(member.task)
        if _started(member) and not (before and _started(before)):
            insort(self.started, member.task)

    def _hold(self, task: int) -> None:
        if task not in self.tails:
            tail = self.tails[task] = self.live.hold(task)
            tail.on_change.add(self._changed)

    def _release(self, task: int) -> None:
        tail = self.tails.pop(task)
        tail.on_change.discard(self._changed)
        self.live.release(tail)

    def close(self) -> None:
        """Nobody watches it any more."""
        for task in list(self.tails):
            self._release(task)

    def _changed(self, task: int) -> None:
        """A member has more output, or another state."""
        now = self.tails[task].now
        if now is not None and now != self.told.get(task):
            self.told[task] = now
            number = self.news[-1][0] + 1 if self.news else 1
            self.news.append((number, events.event("status", now)))
            member = Member(task, now.status, now.attempt, now.cancel_requested)
            if member != self.members[task]:
                self._set(member, self.members[task])
        self.bell.ring()

    def statuses(self, behind: int) -> tuple[int, list[bytes]]:
        """`status` events behind a number, and the number of the last one.

        To somebody who comes, or came too late, that of each task that runs is told.
        """
        last = self.news[-1][0] if self.news else 0
        if behind < 0 or (self.news and behind + 1 < self.news[0][0]):
            running = (each for each in self.told.values() if each.status == "in_progress")
            return last, [events.event("status", now) for now in running]
        return last, [event for number, event in self.news if number > behind]

    def waiting(self, position: GroupPosition, streams: Streams) -> list[int]:
        """Members of which there may be something to tell behind a position."""
        found = [
            task
            for task, at in position.within.items()
            if task in self.members and self._ahead(task, at, streams)
        ]
        if len(self.started) > position.known:
            found += (
                task
                for task in self.started
                if task not in position.within and position.ended_at(task) is None
            )
        return sorted(found)

    def _ahead(self, task: int, at: Position, streams: Streams) -> bool:
        tail = self.tails.get(task)
        if tail is not None:
            return tail.ahead(at, streams)
        member = self.members[task]
        return not at.told or member.attempt > at.attempt or member.status in FINAL

    def reopen(self, position: GroupPosition, tasks: Iterable[int]) -> GroupPosition:
        """The position of somebody who was told the end of tasks that may run again."""
        for task in tasks:
            attempt = position.ended_at(task)
            tail = self.tails.get(task)
            now = (tail and tail.now) or self.members[task]
            if attempt is not None and (now.attempt > attempt or now.status not in FINAL):
                position = position.reopened(task, *self.around(task))
        return position


def _started(member: Member) -> bool:
    return member.attempt > 0 or member.status in FINAL
