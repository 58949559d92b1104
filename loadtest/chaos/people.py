"""People: they hand over tasks, cancel some, run some again, and remember what they were told."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from client.client import Client
from client.errors import DwError
from client.transport import Patience
from client.waiting import pages
from loadtest.chaos.case import Case
from loadtest.chaos.scripts import Script
from schema.tasks import FINAL, Submission, Submitted, Task

_PEOPLE = 3
_LOOK_S = 0.3
_AT_ONCE = 12
_MOST_OPEN = 100
_TWICE = 7
"""One batch of so many is handed over by two people at once."""

_PATIENCE = Patience(first_s=60, later_s=60)


class People:
    """Some of them, each with tasks of his own: one whose server hangs waits with those."""

    def __init__(
        self,
        campaign: str,
        scripts: Iterator[Script],
        journal: Path,
        waiting: int,
        clock: Callable[[], float],
    ) -> None:
        """So many tasks are to wait in the queue."""
        share = waiting // _PEOPLE
        self._people = [_Person(campaign, scripts, journal, share, clock) for _ in range(_PEOPLE)]

    @property
    def cases(self) -> list[Case]:
        """All tasks."""
        return [case for person in self._people for case in person.cases]

    @property
    def open(self) -> list[Case]:
        """What is not over."""
        return [case for case in self.cases if case.open]

    @property
    def doubled(self) -> list[tuple[Case, int]]:
        """Tasks that were given a second number for the same key."""
        return [each for person in self._people for each in person.doubled]

    def stop(self) -> None:
        """Hand over no more tasks."""
        for person in self._people:
            person.more = False

    async def run(self, url: str) -> None:
        """Work until `stop` was called and every task is over."""
        async with asyncio.TaskGroup() as group:
            for person in self._people:
                group.create_task(person.run(url))


class _Person:
    """Keeps some tasks queued."""

    def __init__(
        self,
        campaign: str,
        scripts: Iterator[Script],
        journal: Path,
        waiting: int,
        clock: Callable[[], float],
    ) -> None:
        self.cases: list[Case] = []
        self.doubled: list[tuple[Case, int]] = []
        self.more = True
        self._open: list[Case] = []
        self._campaign = campaign
        self._scripts = scripts
        self._journal = journal
        self._waiting = waiting
        self._clock = clock
        self._batches = 0

    async def run(self, url: str) -> None:
        """Work until nothing more is wanted and everything is over."""
        async with Client(url, patience=_PATIENCE) as one, Client(url, patience=_PATIENCE) as other:
            while self.more or self._open:
                await self._hand_over(one, other)
                await self._look(one)
                self._open = [case for case in self._open if case.open]
                await asyncio.sleep(_LOOK_S)

    def _note(self, cases: Sequence[Case], what: str) -> None:
        now_s = self._clock()
        for case in cases:
            case.said.append((now_s, what))

    async def _hand_over(self, one: Client, other: Client) -> None:
        """New tasks where there is room; and again those of which no answer came."""
        if self.more:
            waiting = sum(case.task is None or case.task.status == "pending" for case in self._open)
            room = min(self._waiting - waiting, _MOST_OPEN - len(self._open), _AT_ONCE)
            new = [Case(script) for script in islice(self._scripts, max(room, 0))]
            self.cases += new
            self._open += new
        batch = [case for case in self._open if not case.id]
        if not batch:
            return
        tasks = [case.script.submission(self._campaign, self._journal) for case in batch]
        self._batches += 1
        people = [one, other] if self._batches % _TWICE == 0 else [one]
        async with asyncio.TaskGroup() as group:
            for person in people:
                group.create_task(self._submit(person, batch, tasks))
        await self._cancel(one, [case for case in batch if case.script.cancel == "pending"])

    async def _submit(
        self, person: Client, batch: Sequence[Case], tasks: Sequence[Submission]
    ) -> None:
        self._note(batch, "handed over")
        try:
            answers: list[Submitted] = await person.submit(tasks)
        except DwError as error:
            self._note(batch, f"handing over failed: {error}")
            return
        for case, answer in zip(batch, answers, strict=True):
            if case.id not in (0, answer.id):
                self.doubled.append((case, answer.id))
            case.id = answer.id
            self._note([case], f"is task {answer.id}" + (", new" if answer.created else ""))

    async def _look(self, person: Client) -> None:
        """See how far tasks are, and do with them what their scripts say."""
        known = {case.id: case for case in self._open if case.id}
        try:
            async for task in pages(person, ids=known):
                known[task.id].task = task
        except DwError:
            return
        cases = known.values()
        running = [case for case in cases if case.task and case.task.status == "in_progress"]
        await self._cancel(person, [case for case in running if case.script.cancel == "running"])
        for case in cases:
            if case.task is not None and case.task.status in FINAL:
                if case.script.retried and not case.left_alone:
                    await self._retry(person, case, case.task)
                else:
                    case.left_alone = True

    async def _cancel(self, person: Client, cases: Sequence[Case]) -> None:
        for case in cases:
            if not case.id or case.cancelled_at is not None:
                continue
            case.cancel_asked = True
            self._note([case], "cancel asked")
            try:
                task = await person.cancel(case.id)
            except DwError as error:
                self._note([case], f"cancelling failed: {error}")
                continue
            case.task = task
            self._note([case], f"cancelled at attempt {task.attempt}: {task.status}")
            if task.cancel_requested:
                case.cancelled_at = task.attempt

    async def _retry(self, person: Client, case: Case, seen: Task) -> None:
        case.retries.add(seen.attempt)
        self._note([case], f"retry asked after attempt {seen.attempt}: {seen.status}")
        try:
            case.task = await person.retry(case.id, seen.attempt)
        except DwError as error:
            self._note([case], f"retry failed: {error}")
            return
        case.left_alone = True
