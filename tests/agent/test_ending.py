"""Cancelling tasks, and ending the agent: what has not started goes back, what runs is finished."""

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from tests.agent.conftest import AgentProcess, StartAgent, eventually
from tests.agent.fake_api import FakeApi, lose

RunAgent = Callable[..., AbstractAsyncContextManager[AgentProcess]]


async def test_cancelling_what_runs(fake: FakeApi, start_agent: StartAgent, system: str) -> None:
    """It arrives within milliseconds, through the parked beat."""
    task = fake.add("echo started; sleep 600")
    async with start_agent(kill_grace_s=0.3) as worker:
        await eventually(lambda: bool(worker._attempts.running), "it runs")
        fake.cancelled.add((task, 1))
        fake.poke()
        result = await fake.result(task)
    assert (result.reason, result.signal) == ("cancelled", 15)


async def test_cancelling_what_ignores_sigterm(fake: FakeApi, start_agent: StartAgent) -> None:
    """After the grace it is killed."""
    task = fake.add("trap '' TERM; echo ready; while :; do sleep 0.01; done")
    async with start_agent(kill_grace_s=0.2):
        await fake.until(lambda: bool(fake.owned))
        fake.flush_ms = 50
        fake.poke()
        await fake.until(lambda: fake.log(task) == b"ready\n")
        fake.cancelled.add((task, 1))
        fake.poke()
        result = await fake.result(task)
    assert (result.reason, result.signal) == ("cancelled", 9)


async def test_cancelling_what_is_queued(
    fake: FakeApi, start_agent: StartAgent, tmp_path: Path
) -> None:
    """It is never started."""
    async with start_agent(slots=1, prefetch=4) as worker:
        for _ in range(3):  # so that the agent knows that tasks are short
            await fake.result(fake.add("true"))
        gate = tmp_path / "gate"
        os.mkfifo(gate)
        running = fake.add(f"read line < {gate}")
        queued = fake.add(f"touch {tmp_path}/started")
        await eventually(lambda: (queued, 1) in worker._attempts.queued, "it is queued")
        fake.cancelled.add((queued, 1))
        fake.poke()
        result = await fake.result(queued)
        gate.write_text("go\n")
        await fake.result(running)
    assert (result.reason, result.exit_code, result.stdout) == ("cancelled", None, None)
    assert not (tmp_path / "started").exists()


async def test_a_cancellation_that_comes_before_its_task(
    fake: FakeApi, start_agent: StartAgent, tmp_path: Path
) -> None:
    """The claim's reply was lost; what is delivered again had been cancelled meanwhile."""
    fake.faults["/claims"].append(lose)
    task = fake.add(f"touch {tmp_path}/started")
    fake.cancelled.add((task, 1))
    async with start_agent():
        result = await fake.result(task)
    assert result.reason == "cancelled"


async def test_tasks_ahead_do_not_wait_behind_long_ones(
    fake: FakeApi, start_agent: StartAgent, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What was claimed ahead and does not get to run goes back: others may be idle."""
    monkeypatch.setattr("agent.worker._QUEUED_MOST_S", 0.2)
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    async with start_agent(slots=1, prefetch=4):
        for _ in range(3):
            await fake.result(fake.add("true"))
        long = fake.add(f"read line < {gate}")
        hoarded = fake.add("echo second")
        result = await fake.result(hoarded)
        assert result.reason == "returned"
        gate.write_text("go\n")
        await fake.result(long)
        await fake.result(hoarded, 2)


async def test_draining(fake: FakeApi, run_agent: RunAgent, tmp_path: Path) -> None:
    """SIGTERM: it says what it waits for, finishes that, uploads everything, and ends well."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    async with run_agent("1", PREFETCH="0") as agent:
        await agent.hears(f"agent tester with 1 slot at {fake.url}")
        task = fake.add(f"echo begun; read line < {gate}; echo done")
        await fake.until(lambda: bool(fake.owned))
        fake.flush_ms = 50
        fake.poke()
        await fake.until(lambda: fake.log(task) == b"begun\n")
        waiting = fake.add("echo not for this one")
        agent.process.send_signal(signal.SIGTERM)
        await agent.hears("finishing 1 task; press Ctrl-C again to stop it")
        gate.write_text("go\n")
        assert await agent.ends() == 0
    assert fake.log(task) == b"begun\ndone\n"
    assert fake.results[task, 1][-1].exit_code == 0
    assert fake.given[waiting, 1] == 0
    assert fake.requests[-1][1].closing


async def test_draining_hands_back_what_was_claimed_ahead(
    fake: FakeApi, start_agent: StartAgent, tmp_path: Path
) -> None:
    """It keeps its place in the queue and runs elsewhere."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    async with start_agent(slots=1, prefetch=4) as worker:
        for _ in range(3):
            await fake.result(fake.add("true"))
        running = fake.add(f"read line < {gate}")
        queued = [fake.add("echo later") for _ in range(3)]
        await eventually(lambda: len(worker._attempts.queued) == 3, "three are queued")
        worker.draining.ask()
        for task in queued:
            assert (await fake.result(task)).reason == "returned"
        gate.write_text("go\n")
        await fake.result(running)


async def test_draining_hands_back_what_a_cut_claim_brought(
    fake: FakeApi, start_agent: StartAgent
) -> None:
    """Else it would count as lost by its machine, and wait for the reaper."""
    async with start_agent() as worker:
        await fake.until(lambda: any(kind == "claim" for kind, _ in fake.requests))
        task = fake.add("true")
        worker.draining.ask()  # before the agent can have read the claim's reply
        await fake.until(lambda: not fake.live, "the session is closed")
    assert fake.given[task, 1] == len(fake.results.get((task, 1), ()))


async def test_the_api_can_ask_to_drain(fake: FakeApi, run_agent: RunAgent) -> None:
    """For the machine's maintenance."""
    async with run_agent("2") as agent:
        await agent.hears("agent tester")
        fake.drain = True
        fake.poke()
        assert await agent.ends() == 0
    assert fake.requests[-1][1].closing


async def test_a_second_signal_stops_the_tasks(fake: FakeApi, run_agent: RunAgent) -> None:
    """They run again elsewhere."""
    async with run_agent("1") as agent:
        task = fake.add("echo begun; sleep 600")
        await fake.until(lambda: bool(fake.owned))
        fake.flush_ms = 50
        fake.poke()
        await fake.until(lambda: fake.log(task) == b"begun\n")
        agent.process.send_signal(signal.SIGINT)
        await agent.hears("press Ctrl-C again")
        agent.process.send_signal(signal.SIGINT)
        assert await agent.ends() == 0
    result = fake.results[task, 1][-1]
    assert result.reason == "agent_lost"
    assert result.message == "agent tester was told to stop at once"


async def test_draining_is_bounded_if_asked(fake: FakeApi, run_agent: RunAgent) -> None:
    """Service managers kill what takes too long; the logs should be safe before that."""
    async with run_agent("1", DRAIN_S="0.2") as agent:
        task = fake.add("echo begun; sleep 600")
        fake.flush_ms = 50
        await fake.until(lambda: fake.log(task) == b"begun\n")
        agent.process.send_signal(signal.SIGTERM)
        assert await agent.ends() == 0
    result = fake.results[task, 1][-1]
    assert result.reason == "agent_lost"
    assert result.message == "agent tester was told to stop within 0.2 s (DRAIN_S)"


async def test_it_ends_while_the_api_is_away(fake: FakeApi, run_agent: RunAgent) -> None:
    """Nothing is held, so there is nothing to wait for."""
    fake.away = True
    async with run_agent("1") as agent:
        await agent.hears("the API cannot be reached")
        agent.process.send_signal(signal.SIGTERM)
        assert await agent.ends() == 0


async def test_children_die_with_an_agent_that_fails(
    fake: FakeApi, start_agent: StartAgent, tmp_path: Path
) -> None:
    """An error in one loop ends the others, and what the slots run with them."""
    fake.add(f"echo $$ > {tmp_path}/pid; exec sleep 600")
    pid = tmp_path / "pid"

    async def break_it() -> None:
        async with start_agent() as worker:
            await eventually(lambda: pid.exists() and bool(pid.read_text()), "it runs")
            worker._runner.tick = None  # type: ignore[assignment,method-assign]
            await asyncio.Event().wait()

    with pytest.raises(BaseExceptionGroup):
        await break_it()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
