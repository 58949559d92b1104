"""Reads back all that the server says of a campaign's tasks, and lets the rules judge."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime

from msgspec import Struct, field

from client.client import Client
from client.errors import NotFoundError
from loadtest.chaos import checks, logs
from loadtest.chaos.case import Case
from loadtest.chaos.evidence import Evidence, attempts_of
from loadtest.chaos.happened import History
from loadtest.chaos.journal import Run
from loadtest.chaos.logs import Log
from loadtest.chaos.viewers import Key, Seen
from loadtest.record import Violation
from schema.tasks import Attempt, Stream

_AT_ONCE = 8
_STREAMS: tuple[Stream, ...] = ("stdout", "stderr")


class Findings(Struct):
    """What was looked at, and what was found."""

    attempts: Counter[str] = field(default_factory=Counter)
    """By the reason of their end."""
    logs: Counter[str] = field(default_factory=Counter)
    """By what they say of themselves."""
    log_bytes: int = 0
    seen: int = 0
    """Logs that somebody watched."""
    overlaps: Counter[str] = field(default_factory=Counter)
    """Attempts that ran beside another one of their task, also where that is no violation."""
    violations: list[Violation] = field(default_factory=list)
    evidence: dict[str, Evidence] = field(default_factory=dict)
    """Of tasks with violations, by the place that those name."""


class Court:
    """Looks at each task, and at each log of each of its attempts."""

    def __init__(
        self,
        client: Client,
        campaign: str,
        runs: Mapping[int, Mapping[int, Run]],
        history: History,
        boot_s: Callable[[datetime], float],
        seen: Mapping[Key, Sequence[Seen]],
    ) -> None:
        """`runs` by task and attempt; `boot_s` gives the boot clock at a time of the database's."""
        self._client = client
        self._campaign = campaign
        self._runs = runs
        self._history = history
        self._boot_s = boot_s
        self._seen = seen
        self._found = Findings()

    async def judge(self, cases: Sequence[Case]) -> Findings:
        """Look at all of them."""
        waiting = iter(cases)
        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(self._work(waiting))
            group.create_task(self._check_groups(cases))
        return self._found

    async def _work(self, waiting: Iterator[Case]) -> None:
        for case in waiting:
            await self._look(case)

    async def _look(self, case: Case) -> None:
        if not case.id:
            what = f"{case.script.kind} {case.script.number}"
            self._found.violations.append(Violation("not over", what, "it was never accepted"))
            return
        try:
            task = await self._client.task(case.id)
        except NotFoundError:
            lost = Violation("lost", f"task {case.id}", "it was accepted, and is not known")
            self._found.violations.append(lost)
            return
        known = Evidence(
            case,
            task,
            attempts_of(task),
            self._runs.get(case.id, {}),
            self._history,
            self._boot_s,
        )
        wrong = list(checks.check(known))
        kind = "exclusive" if case.script.exclusive else "not exclusive"
        self._found.overlaps[kind] += sum(1 for _ in checks.overlapping(known))
        for attempt in known.attempts:
            self._found.attempts[str(attempt.reason)] += 1
            for stream in _STREAMS:
                wrong += await self._check_log(known, attempt, stream)
        if wrong:
            self._found.violations += wrong
            self._found.evidence[known.where] = known

    async def _check_log(
        self, known: Evidence, attempt: Attempt, stream: Stream
    ) -> list[Violation]:
        number = attempt.attempt
        async with self._client.logs(known.task.id, stream=stream, attempt=number) as reading:
            body = b"".join([piece async for piece in reading])
            log = Log(stream, reading.state, reading.missing(stream), body)
        self._found.logs[log.state] += 1
        self._found.log_bytes += len(body)
        run = known.runs.get(number)
        wrong = logs.judge(known.case.script, attempt, run, log)
        if wrong is None and log.state != "complete" and run and not known.excused(attempt):
            wrong = ("log state", f"it is {log.state}, and nothing had happened to its agent")
        watched = self._seen.get((known.task.id, number, stream), ())
        self._found.seen += len(watched)
        found = [wrong, *(logs.judge_seen(seen, log) for seen in watched)]
        return [
            known.wrong(rule, f"attempt {number}, {stream}: {what}")
            for rule, what in filter(None, found)
        ]

    async def _check_groups(self, cases: Sequence[Case]) -> None:
        """Each task is there once, however often it was handed over."""
        wanted = Counter(case.script.group(self._campaign) for case in cases)
        for name, count in wanted.items():
            group = await self._client.group(name)
            if group.total != count:
                what = f"{group.total} tasks, and {count} were handed over"
                self._found.violations.append(Violation("doubled", f"group {name}", what))
