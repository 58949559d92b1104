"""Runs attempts in slots: work folder, environment, process, output, result."""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from agent.attempts import Attempt, Attempts
from agent.folders import Folder, Folders
from agent.forms import Forms
from agent.isolation import Launcher
from agent.launch import Launch, RefusedError
from agent.outbox import Outbox
from agent.output import Bounds, Output
from agent.process import Process, Rules, start
from agent.settings import Settings
from agent.trees import Trees
from agent.unstarted import REFUSED_S, SPAWN_ERRORS, Rests, result_of
from schema.reports import Result
from schema.sessions import Held
from schema.tasks import Reason, Stream

log = logging.getLogger("agent")

TICK_S = 0.1
"""Timeouts and flushes are as exact as this: one timer for all tasks."""

_FAILED = frozenset({"exit", "signal", "timeout"})  # with exit code 0 it has not
_UNPROVEN_S = 1.0  # a slot that hands an exclusive task back must not be given it again in a circle


class _Run(NamedTuple):
    """What of an attempt lives while its process does."""

    attempt: Attempt
    process: Process
    output: Output
    launch: Launch


class Runner:
    """Knows the processes of all running attempts."""

    def __init__(
        self,
        settings: Settings,
        attempts: Attempts,
        outbox: Outbox,
        trees: Trees,
        folders: Folders,
        launcher: Launcher,
        ended: Callable[[float], None],
        *,
        exclusive_s: Callable[[], float | None],
        log_bytes: Callable[[], int],
    ) -> None:
        """`ended` hears how many seconds each task ran.

        `exclusive_s` gives None while exclusive tasks may run, else the seconds that they have;
        `log_bytes` what the log of an attempt may hold.
        """
        self._settings = settings
        self._attempts = attempts
        self._outbox = outbox
        self._trees = trees
        self._folders = folders
        self._launcher = launcher
        self._ended = ended
        self._exclusive_s = exclusive_s
        self._log_bytes = log_bytes
        self._runs: dict[Held, _Run] = {}
        self._short = False
        self.flush_s = settings.flush_s

    async def slot(self, number: int) -> None:
        """Run one attempt after the other until cancelled; slots are numbered from 0."""
        rests = Rests()
        while True:
            attempt = self._attempts.start_next()
            if attempt is None:
                await self._attempts.arrival()
                continue
            if attempt.task.exclusive and self._exclusive_s() is not None:
                result = Result(lease=attempt.task.lease, reason="returned")
                self._outbox.finish(attempt.delivery, result)
                rest_s = _UNPROVEN_S
            else:
                rest_s = await self._run(attempt, number, rests)
            self._attempts.ran(attempt)
            if rest_s:
                with self._attempts.rest():
                    await asyncio.sleep(rest_s)

    async def _run(self, attempt: Attempt, slot: int, rests: Rests) -> float:
        """Run an attempt to its end; the seconds for which its slot must rest."""
        rest_s = 0.0
        folder = None
        try:
            if not attempt.task.cwd or self._launcher.isolates(attempt.task):
                folder = self._folders.take()
            run = self._start(attempt, folder, slot)
        except SPAWN_ERRORS as error:
            result, rest_s = self._unstarted(attempt, error, rests)
            if result.reason == "returned" and folder and not self._launcher.isolates(attempt.task):
                self._folders.put_back(folder)  # to look at it takes a descriptor
                folder = None
        else:
            result = await self._finish(run)
            if result.reason == "spawn_error":  # as a sandbox that could not be made
                rest_s = rests.next_s()
            elif rests.failures:
                rests.reset()
                self._short = False
        log.debug("task %d attempt %d: %s", *attempt.key, result.reason)
        self._outbox.finish(attempt.delivery, result)
        if folder is not None:
            await self._put_away(folder, attempt, result)
        return rest_s

    def _unstarted(self, attempt: Attempt, error: Exception, rests: Rests) -> tuple[Result, float]:
        """What to report, and for how long the slot must rest."""
        result = result_of(attempt.task, error)
        if result.reason == "returned":
            self._say_short(error)
        if isinstance(error, RefusedError):
            return result, REFUSED_S
        return result, 0.0 if result.reason == "exit" else rests.next_s()

    async def _put_away(self, folder: Folder, attempt: Attempt, result: Result) -> None:
        failed = result.reason in _FAILED and result.exit_code != 0
        if failed and self._settings.keep_work == "failed":
            await self._folders.keep(folder, "{}.{}".format(*attempt.key))
        else:
            await self._folders.give_back(folder)

    def _say_short(self, error: Exception) -> None:
        """Say once that the machine lacks something, until a slot that failed starts one again."""
        if not self._short:
            self._short = True
            log.warning("this machine cannot start tasks now, they are handed back: %s", error)

    async def _finish(self, run: _Run) -> Result:
        attempt, process, output, _ = run
        self._runs[attempt.key] = run
        if not self._outbox.memory.full:
            process.resume()
        try:
            end = await process.ended
        finally:  # nothing outlives its slot, whatever ends it
            del self._runs[attempt.key]
            process.abandon()
        totals = output.end(time.time_ns() // 1000, time.monotonic())
        self._ended(end.run_s)
        if run.launch.verdict is not None:
            end = await run.launch.verdict(end)
        return Result(
            lease=attempt.task.lease,
            **end._asdict(),
            stdout=totals["stdout"],
            stderr=totals["stderr"],
        )

    def _start(self, attempt: Attempt, folder: Folder | None, slot: int) -> _Run:
        task = attempt.task
        output = Output(
            attempt.delivery,
            self._outbox,
            Bounds(self._settings.chunk_bytes, self._log_bytes()),
            Forms(task.secrets.values()) if task.secrets else None,
        )

        def sink(stream: Stream, data: bytes) -> None:
            output.take(stream, data, time.time_ns() // 1000, time.monotonic())

        mark = self._trees.mark(task.id, task.attempt)
        launch = self._launcher.launch(task, folder.path if folder else None, mark, slot)
        try:
            process = start(
                launch.argv,
                cwd=launch.cwd,
                env=launch.env,
                sink=sink,
                rules=Rules(
                    task.timeout,
                    task.no_output_timeout,
                    self._settings.kill_grace_s,
                    self._settings.pipe_wait_s,
                ),
                clock=time.monotonic,
                add_tree=lambda pid: self._trees.add(
                    pid, mark, exclusive=task.exclusive, shielded=launch.shielded
                ),
                fds=launch.fds,
                relayed=launch.relayed,
            )
        finally:
            for fd in launch.fds:
                os.close(fd)
        return _Run(attempt, process, output, launch)

    def tick(self) -> None:
        """Do what is due: cut old output, end what is over its time or no longer proven ours."""
        now_us, now_s = time.time_ns() // 1000, time.monotonic()
        exclusive_s = self._exclusive_s()
        for run in tuple(self._runs.values()):
            if exclusive_s is not None and run.attempt.task.exclusive:
                message = "cannot reach the API, and others may soon be given this exclusive task"
                name = self._settings.agent_name
                run.process.stop("agent_lost", f"agent {name} {message}", exclusive_s)
            run.process.tick()
            # At the next tick it would be too old.
            run.output.tick(now_us, now_s, max(0.0, self.flush_s - TICK_S))
        self._trees.tick()

    def ages_s(self) -> Iterator[float]:
        """Seconds that each running process has been running."""
        return (run.process.age_s() for run in self._runs.values())

    def read_output(self, *, wanted: bool) -> None:
        """Read what tasks write, or leave it in their pipes."""
        for run in self._runs.values():
            if wanted:
                run.process.resume()
            else:
                run.process.pause()

    def cancel(self, key: Held) -> None:
        """End an attempt in whatever state it is; an unknown one has ended, or is to come."""
        attempt = self._attempts.held.get(key)
        if attempt is None:
            self._attempts.cancel_early(key)
            return
        attempt.cancelled = True
        if attempt.state == "queued":
            self.refuse(attempt, "cancelled")
        elif key in self._runs:
            self._runs[key].process.stop("cancelled")

    def refuse(self, attempt: Attempt, reason: Reason) -> None:
        """Report a queued attempt as never started."""
        self._attempts.unqueue(attempt)
        self._outbox.finish(attempt.delivery, Result(lease=attempt.task.lease, reason=reason))

    def hand_back(self) -> None:
        """Let others have what has not started."""
        for attempt in tuple(self._attempts.queued.values()):
            self.refuse(attempt, "returned")

    def stop_all(self, reason: Reason, message: str, grace_s: float | None = None) -> None:
        """End everything that runs; after KILL_GRACE_S by force where no other grace is given."""
        for run in tuple(self._runs.values()):
            run.process.stop(reason, message, grace_s)
