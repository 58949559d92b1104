"""Attempts that write nothing for too long are ended, and no others."""

import asyncio
import os
import select
from collections.abc import AsyncIterator

import pytest

from agent.process import Exit, Process, Rules, start
from schema.tasks import Stream
from tests.agent.conftest import AddTree, StartAgent
from tests.agent.fake_api import FakeApi


async def test_silence_ends_a_task(fake: FakeApi, start_agent: StartAgent, system: str) -> None:
    """A hung emulator holds its slot for hours otherwise; what it wrote before is kept."""
    task = fake.add("echo begun; exec sleep 600", no_output_timeout=0.5)
    async with start_agent():
        result = await fake.result(task)
    assert (result.reason, result.exit_code, result.signal) == ("timeout", None, 15)
    assert result.message == "wrote nothing for 0.5 s"
    assert fake.log(task) == b"begun\n"


@pytest.mark.parametrize("stream", [1, 2])
async def test_output_on_either_stream_keeps_a_task_alive(
    fake: FakeApi, start_agent: StartAgent, stream: int
) -> None:
    """It runs for longer than it may be silent, and is never silent for so long."""
    command = f"for i in 1 2 3 4 5 6 7 8; do echo $i >&{stream}; sleep 0.25; done"
    task = fake.add(command, no_output_timeout=1.5)
    async with start_agent():
        result = await fake.result(task)
    assert (result.reason, result.exit_code) == ("exit", 0)
    assert result.run_s is not None
    assert result.run_s > 1.5


class _Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class _Silent:
    """A real process under a clock that the test moves."""

    def __init__(self, command: str, rules: Rules, add_tree: AddTree) -> None:
        self.clock = _Clock()
        self.heard: list[tuple[Stream, bytes]] = []
        self.process: Process = start(
            ("/bin/sh", "-c", command), cwd=None, env={b"PATH": os.environb[b"PATH"]},
            sink=lambda stream, data: self.heard.append((stream, data)), rules=rules,
            clock=self.clock, add_tree=add_tree,
        )  # fmt: skip

    def after(self, seconds: float) -> bool:
        """Move the clock; whether the process is being ended."""
        self.clock.now_s += seconds
        self.process.tick()
        return self.process._reason is not None

    def writes(self) -> None:
        """Wait until its stdout holds something, without letting the loop read it."""
        ready, _, _ = select.select([self.process._pipes[0]._fd], [], [], 20)
        assert ready, "it wrote nothing"

    async def end(self) -> Exit:
        async with asyncio.timeout(20):
            return await self.process.ended


@pytest.fixture
async def quiet(add_tree: AddTree) -> AsyncIterator[_Silent]:
    """Start a process that says hello and no more, and may be silent for 60 s."""
    one = _Silent("echo hello; exec sleep 600", Rules(None, 60, 10, 5), add_tree)
    yield one
    one.process.abandon()


async def test_silence_counts_from_the_start_and_from_the_last_byte(quiet: _Silent) -> None:
    """To the tick; and it is ended once, as by its timeout."""
    quiet.process.resume()
    quiet.writes()
    assert not quiet.after(59)
    quiet.process._pipes[0].read()
    assert not quiet.after(59)
    assert quiet.after(1)
    end = await quiet.end()
    assert (end.reason, end.message) == ("timeout", "wrote nothing for 60 s")
    assert quiet.heard == [("stdout", b"hello\n")]


async def test_output_that_the_agent_leaves_unread_is_no_silence(quiet: _Silent) -> None:
    """Its outbox is full, as in an outage: an hour of that must not end the farm's tests."""
    quiet.writes()
    assert not quiet.after(3600)
    quiet.process.resume()
    quiet.process._pipes[0].read()
    assert not quiet.after(59)
    quiet.process.pause()
    assert not quiet.after(3600)
    quiet.process.resume()
    assert not quiet.after(59)
    assert quiet.after(1)


async def test_output_that_the_loop_had_no_time_to_read_is_no_silence(quiet: _Silent) -> None:
    """An agent that was held up looks at the clock first: it must look into the pipe, too."""
    quiet.process.resume()
    quiet.writes()
    assert not quiet.after(3600)
    assert quiet.heard == [("stdout", b"hello\n")]
    assert quiet.after(60)


async def test_a_task_that_is_cancelled_is_not_late_as_well(quiet: _Silent) -> None:
    """It is silent in its grace, and stays cancelled."""
    quiet.process.resume()
    quiet.process.stop("cancelled")
    quiet.after(60)
    assert (await quiet.end()).reason == "cancelled"
