"""Runs attempts in slots: work folder, environment, process, streams, result."""

import asyncio
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from agent.attempts import Attempt, Attempts
from agent.outbox import Outbox
from agent.process import Process, Rules, SpawnError, start
from agent.settings import Settings
from agent.streams import MarkClock, StreamBuffer
from schema.claims import ClaimedTask
from schema.reports import Result
from schema.sessions import Held
from schema.tasks import Reason, Stream

log = logging.getLogger("agent")

_MESSAGE_CHARS = 1000  # the wire's limit


class _Run(NamedTuple):
    """What of an attempt lives while its process does."""

    attempt: Attempt
    process: Process
    streams: dict[Stream, StreamBuffer]


class Runner:
    """Knows the processes of all running attempts."""

    def __init__(
        self,
        settings: Settings,
        attempts: Attempts,
        outbox: Outbox,
        work: Path,
        inherited: dict[bytes, bytes],
        ended: Callable[[float], None],
    ) -> None:
        """`work` holds the tasks' folders; `ended` hears how many seconds each task ran."""
        self._settings = settings
        self._attempts = attempts
        self._outbox = outbox
        self._work = work
        self._inherited = {**inherited, b"DW_AGENT": settings.agent_name.encode()}
        self._ended = ended
        self._shell = shutil.which("bash") or "/bin/sh"
        self._runs: dict[Held, _Run] = {}
        self.flush_s = settings.flush_s

    async def slot(self) -> None:
        """Run one attempt after the other until cancelled."""
        while True:
            attempt = self._attempts.start_next()
            if attempt is None:
                await self._attempts.arrived.wait()
                continue
            result = await self._run(attempt)
            log.debug("task %d attempt %d: %s", *attempt.key, result.reason)
            self._outbox.finish(attempt.delivery, result)
            if attempt.task.cwd is None:
                await self._remove(self._folder(attempt.task))
            self._attempts.ran(attempt)

    async def _run(self, attempt: Attempt) -> Result:
        lease = attempt.task.lease
        clock = MarkClock()
        chunk_bytes = self._settings.chunk_bytes
        streams: dict[Stream, StreamBuffer] = {
            "stdout": StreamBuffer(clock, chunk_bytes),
            "stderr": StreamBuffer(clock, chunk_bytes),
        }
        try:
            process = self._start(attempt, streams)
        except SpawnError as error:
            return Result(lease=lease, reason="spawn_error", message=str(error)[:_MESSAGE_CHARS])
        self._runs[attempt.key] = _Run(attempt, process, streams)
        if not self._outbox.full:
            process.resume()
        try:
            end = await process.ended
        finally:  # nothing outlives its slot, whatever ends it
            del self._runs[attempt.key]
            process.abandon()
        for stream, buffer in streams.items():
            if cut := buffer.flush():
                self._outbox.add(attempt.delivery, stream, cut)
        self._ended(end.run_s)
        return Result(
            lease=lease,
            **end._asdict(),
            stdout=streams["stdout"].total(),
            stderr=streams["stderr"].total(),
        )

    def _start(self, attempt: Attempt, streams: dict[Stream, StreamBuffer]) -> Process:
        task = attempt.task
        delivery = attempt.delivery
        outbox = self._outbox

        def sink(stream: Stream, data: bytes) -> None:
            for cut in streams[stream].append(data, time.time_ns() // 1000):
                outbox.add(delivery, stream, cut)

        try:
            if task.cwd is None:
                folder = self._folder(task)
                folder.mkdir()
            else:
                folder = Path(task.cwd)
            command = task.command.encode()
            env = self._environment(task)
        except (OSError, ValueError) as error:  # a full disk; text that is no UTF-8
            raise SpawnError(f"the process could not be started: {error}") from error
        rules = Rules(task.timeout, self._settings.kill_grace_s, self._settings.pipe_wait_s)
        argv = (self._shell, b"-c", command)
        return start(argv, cwd=folder, env=env, sink=sink, rules=rules, clock=time.monotonic)

    def _folder(self, task: ClaimedTask) -> Path:
        return self._work / f"{task.id}.{task.attempt}"

    def _environment(self, task: ClaimedTask) -> dict[bytes, bytes]:
        env = dict(self._inherited)
        for name, value in (task.env or {}).items():
            env[name.encode()] = value.encode()
        env[b"DW_TASK_ID"] = b"%d" % task.id
        env[b"DW_ATTEMPT"] = b"%d" % task.attempt
        return env

    async def _remove(self, folder: Path) -> None:
        try:
            os.rmdir(folder)  # noqa: PTH106 - most tasks leave it empty, and this is the hot path
        except FileNotFoundError:
            return
        except OSError:
            try:
                await asyncio.to_thread(shutil.rmtree, folder)
            except OSError as error:
                log.warning("a task's work folder stays behind: %s", error)

    def tick(self, exclusive_lost: bool) -> None:
        """Do what is due: cut old output, end what is over its time or no longer proven ours."""
        old_us = time.time_ns() // 1000 - int(self.flush_s * 1e6)
        for run in tuple(self._runs.values()):
            if exclusive_lost and run.attempt.task.exclusive:
                run.process.stop("agent_lost", "the API was away for longer than the lease")
            run.process.tick()
            for stream, buffer in run.streams.items():
                if cut := buffer.flush_older(old_us):
                    self._outbox.add(run.attempt.delivery, stream, cut)

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

    def stop_all(self, reason: Reason, message: str, grace_s: float | None = None) -> None:
        """End everything that runs."""
        for run in tuple(self._runs.values()):
            run.process.stop(reason, message, grace_s)
