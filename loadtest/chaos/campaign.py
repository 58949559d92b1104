"""One campaign: start, disturb, heal, let all of it end, judge."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from msgspec import Struct, field

from client.client import Client
from loadtest.chaos import journal, plan, rig
from loadtest.chaos.case import Case
from loadtest.chaos.faults import Faults
from loadtest.chaos.findings import Court, Findings
from loadtest.chaos.happened import EVERYBODY, History
from loadtest.chaos.limits import LEASE_S, SLOTS
from loadtest.chaos.people import People
from loadtest.chaos.programs import Program, StuckError
from loadtest.chaos.rig import Rig
from loadtest.chaos.scripts import scripts
from loadtest.chaos.viewers import Viewers
from loadtest.record import Violation

_WAITING = sum(SLOTS)
_SETTLE_S = 120.0  # the third try of what fails comes up to twelve seconds after the second
_SEEN_S = 30.0
_DRAIN_S = 60.0
_STOP_S = 30.0
_LATE_S = 0.3
_TICK_S = 0.1
_TELL_S = 10.0
_MOST_TOLD = 30
_SESSION_S = 5.0
_CAUSE_S = 10.0  # a server that starts in an outage ends, and is started again


def boot_s() -> float:
    """Seconds of the clock by which everything here is compared."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Outcome(Struct):
    """What came of a campaign."""

    seed: int
    duration_s: float
    history: History
    skipped: Counter[str]
    """Faults that found nobody to strike."""
    cases: list[Case] = field(default_factory=list)
    findings: Findings = field(default_factory=Findings)


class Campaign:
    """`run` once."""

    def __init__(
        self, seed: int, duration_s: float, folder: Path, tell: Callable[[str], None]
    ) -> None:
        """Everything is kept in `folder`. `tell` hears how far it is."""
        self._seed = seed
        self._duration_s = duration_s
        self._folder = folder
        self._tell = tell
        self._history = History()
        self._trouble: list[Violation] = []
        self._closing = False
        self._name = f"chaos-{seed}-{os.getpid()}"

    async def run(self) -> Outcome:
        """All of it; nothing runs afterwards."""
        async with rig.running(self._folder, self._name, self._ended) as machines:
            people = People(self._name, scripts(self._seed), machines.journal, _WAITING, boot_s)
            faults = Faults(machines, self._history, boot_s, self._stuck)
            viewers = Viewers(lambda: people.open)
            await self._disturb(machines, people, viewers, faults)
            findings = await self._judge(machines, people, viewers)
        findings.violations += self._trouble
        findings.violations.sort()
        return Outcome(
            self._seed, self._duration_s, self._history, faults.skipped, people.cases, findings
        )

    async def _disturb(
        self, machines: Rig, people: People, viewers: Viewers, faults: Faults
    ) -> None:
        """Let people and faults work for the time given, then people alone until all is over."""
        async with asyncio.TaskGroup() as group:
            beside = [
                group.create_task(each)
                for each in (
                    people.run(machines.url), viewers.run(machines.url), self._watch(),
                    self._show(people),
                )
            ]  # fmt: skip
            async with asyncio.TaskGroup() as disturbing:
                faults_of = plan.faults(self._seed, self._duration_s, LEASE_S)
                disturbing.create_task(faults.run(faults_of))
                await asyncio.sleep(self._duration_s)
            people.stop()
            await machines.heal()
            self._tell(f"all is healed, {len(people.open)} tasks are not over")
            await asyncio.wait(beside[:1], timeout=_SETTLE_S)
            viewers.stop()
            await asyncio.wait(beside[1:2], timeout=_SEEN_S)
            for task in viewers.watching:
                self._wrong("watched on", f"task {task}", "it is over, and its live log is not")
            for each in beside:
                each.cancel()
        for case in people.open:
            _, said = case.said[-1]
            self._wrong("not over", f"task {case.id}", f"a person still waits: {said}")

    async def _judge(self, machines: Rig, people: People, viewers: Viewers) -> Findings:
        """Drain the agents, then look at what is left, and at every task and log."""
        for process in await machines.zombies():
            self._wrong("zombie", process, "nobody has waited for it")
        self._closing = True
        async with asyncio.TaskGroup() as group:
            for agent in machines.agents:
                group.create_task(self._end(agent.program, _DRAIN_S))
        for process in await machines.left():
            self._wrong("process left", process, "its agent has drained")
        async with Client(machines.url) as client:
            for name in await _alive(client):
                self._wrong("session left", name, "its agent has ended")
            runs = journal.by_task(journal.read(machines.journal))
            court = Court(client, self._name, runs, self._history, _since_boot(), viewers.seen)
            self._tell(f"reading back {len(people.cases)} tasks and their logs")
            findings = await court.judge(people.cases)
        for case, other in people.doubled:
            self._wrong("doubled", f"task {case.id}", f"for the same key there is task {other}")
        for server in machines.servers:
            await self._end(server.program, _STOP_S)
        return findings

    async def _end(self, program: Program, within_s: float) -> None:
        """End a program in order."""
        program.end(signal.SIGTERM)
        try:
            await program.must("end after SIGTERM", program.down.wait(), within_s)
        except StuckError as error:
            self._stuck(error.name, error.what)
        else:
            if program.code:
                self._stuck(program.name, f"ended with exit code {program.code} after SIGTERM")

    def _wrong(self, rule: str, where: str, what: str) -> None:
        self._trouble.append(Violation(rule, where, what))

    def _stuck(self, name: str, what: str) -> None:
        self._wrong("stuck", name, what)

    def _ended(self, program: Program) -> None:
        """Nothing may end without cause."""
        name = program.name
        now_s = boot_s()
        causes = (
            event
            for event in self._history.near(now_s - _CAUSE_S, now_s)
            if event.where == name or (name.startswith("server") and event.whom == EVERYBODY)
        )
        if not self._closing and not any(causes):
            what = f"exit code {program.code}, it said:\n{program.last_words()}"
            self._wrong("ended by itself", name, what)

    async def _watch(self) -> None:
        """Note when this machine has so much to do that everything on it is late."""
        while True:
            due_s = boot_s() + _TICK_S
            await asyncio.sleep(_TICK_S)
            now_s = boot_s()
            if now_s - due_s > _LATE_S:
                event = self._history.begin(
                    "machine busy", "all", EVERYBODY, due_s - _TICK_S, planned=False
                )
                event.ended_s = now_s

    async def _show(self, people: People) -> None:
        began_s = boot_s()
        while True:
            await asyncio.sleep(max(_TELL_S, self._duration_s / _MOST_TOLD))
            over = len(people.cases) - len(people.open)
            self._tell(
                f"{boot_s() - began_s:5.0f} s: {over} tasks are over, "
                f"{self._history.counts().total()} faults were put in"
            )


async def _alive(client: Client) -> list[str]:
    """Agents that have a session when all of them have ended, and a lease is over."""
    deadline_s = boot_s() + LEASE_S + _SESSION_S
    while (agents := await client.agents()) and boot_s() < deadline_s:
        await asyncio.sleep(_TICK_S)
    return [agent.agent for agent in agents]


def _since_boot() -> Callable[[datetime], float]:
    """The boot clock at a time of this machine's wall clock, which nobody sets meanwhile."""
    difference_s = time.time() - boot_s()
    return lambda at: at.timestamp() - difference_s
