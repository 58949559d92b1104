"""Output and results survive the agent: kill -9, a second Ctrl-C, an outage larger than memory."""

import gzip
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import psutil
import pytest
from aiohttp import web

from agent.inheritance import rebuild
from agent.spool import Place, Record, Spool
from tests.agent.conftest import AgentProcess, StartAgent, eventually, runs
from tests.agent.fake_api import Answer, FakeApi, refuse

RunAgent = Callable[..., AbstractAsyncContextManager[AgentProcess]]


def _kill(agent: AgentProcess) -> None:
    """Kill it and all that it started, as the end of its machine would."""
    main, worker = psutil.Process(agent.process.pid), agent.worker()
    main.suspend()  # else it would end in its own way what the worker leaves
    worker.kill()
    while runs(worker.pid):  # it starts nothing any more, and what it had is the guardian's
        time.sleep(0.001)
    for process in (*main.children(recursive=True), main):
        process.kill()


def _spooled(tmp_path: Path) -> int:
    return sum(path.stat().st_size for path in (tmp_path / "state" / "spool").glob("*"))


def _kept(tmp_path: Path) -> bytes:
    return b"".join(path.read_bytes() for path in (tmp_path / "state" / "spool").glob("*"))


async def test_a_killed_agents_results_are_sent_by_the_next_one(
    fake: FakeApi, run_agent: RunAgent, tmp_path: Path
) -> None:
    """What had ended need not run again, though nobody could be told in time."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    async with run_agent("2", PREFETCH="0") as agent:
        done = fake.add(f"echo out; echo err >&2; read line < {gate}")
        running = fake.add("sleep 600")
        await fake.until(lambda: len(fake.owned) == 2)
        fake.away = True
        gate.write_text("go\n")
        await eventually(lambda: b"exit" in _kept(tmp_path), "the spool has the result")
        _kill(agent)
        await agent.ends()
    fake.away = False
    async with run_agent("2") as agent:
        await agent.hears("sending what a dead agent left")
        result = await fake.result(done)
        assert result.exit_code == 0
        assert fake.log(done) == b"out\n"
        assert fake.log(done, "stderr") == b"err\n"
        # Nothing more can count in the dead session: the other task runs again at once.
        await fake.until(lambda: (running, 2) in fake.owned, "its second attempt is claimed")
        assert fake.given[done, 2] == 0
        await eventually(lambda: _spooled(tmp_path) == 0, "the spool is empty")
        _kill(agent)
    assert fake.live == {"session-2"}


async def test_the_last_seconds_of_a_killed_agents_tasks_are_not_lost(
    fake: FakeApi, run_agent: RunAgent, tmp_path: Path
) -> None:
    """They arrive as the log of that attempt, also when the next one has begun long ago."""
    async with run_agent("1", FLUSH_S="3600") as agent:
        fake.flush_ms = 3_600_000
        task = fake.add("echo first; sleep 1.5; echo second; sleep 600")
        await eventually(lambda: _spooled(tmp_path) > 0, "the spool has the first line")
        first = _spooled(tmp_path)
        await eventually(lambda: _spooled(tmp_path) > first, "the spool has the second line")
        _kill(agent)
        await agent.ends()
    fake.end_sessions()
    async with run_agent("1") as agent:
        await fake.until(lambda: (task, 2) in fake.owned)
        await fake.until(lambda: fake.log(task, attempt=1) == b"first\nsecond\n")
        await eventually(lambda: _spooled(tmp_path) == 0, "the spool is empty")
        _kill(agent)


async def test_the_next_agent_names_the_dead_session(
    fake: FakeApi, run_agent: RunAgent, tmp_path: Path
) -> None:
    """Its tasks need not wait for the lease."""
    second = tmp_path / "2"
    async with run_agent("1") as agent:
        fake.add(f"touch {tmp_path}/$DW_ATTEMPT; sleep 600")
        await fake.until(lambda: bool(fake.owned))
        _kill(agent)
        await agent.ends()
    async with run_agent("1") as agent:
        await eventually(second.exists, "it runs again")
        assert await agent.stops() == 0
    assert [session.replaces for session in fake.sessions] == [None, "session-1"]
    async with run_agent("1") as agent:
        await agent.hears("agent tester")
    assert fake.sessions[-1].replaces is None  # the second one closed its session


async def test_a_copy_of_the_folder_ends_nobodys_session(
    fake: FakeApi, run_agent: RunAgent, tmp_path: Path
) -> None:
    """Machines are copied while they run; the first one's tasks go on."""
    async with run_agent("1") as first:
        fake.add("sleep 600")
        await fake.until(lambda: bool(fake.owned))
        shutil.copytree(tmp_path / "state", tmp_path / "copy")
        async with run_agent("1", STATE_DIR=str(tmp_path / "copy")) as second:
            await second.hears("agent tester")
            assert fake.live == {"session-1", "session-2"}, "the first one's session ended"
            second.process.terminate()
            assert await second.ends() == 0
        assert fake.live == {"session-1"}
        await first.stops()


async def test_what_was_left_to_the_next_agent_is_sent(
    fake: FakeApi, run_agent: RunAgent, tmp_path: Path
) -> None:
    """Stopped twice while the API is away, an agent keeps what it could not send."""
    async with run_agent("1") as agent:
        fake.flush_ms = 50
        task = fake.add("echo begun; sleep 600")
        await fake.until(lambda: fake.log(task) == b"begun\n")
        fake.away = True
        agent.process.send_signal(signal.SIGTERM)
        await agent.hears("press Ctrl-C again")
        agent.process.send_signal(signal.SIGTERM)
        await agent.hears("the next agent with this STATE_DIR sends the rest")
        assert await agent.ends() == 1
    fake.away = False
    async with run_agent("1") as agent:
        assert (await fake.result(task)).reason == "agent_lost"
        assert fake.log(task) == b"begun\n"
        await eventually(lambda: _spooled(tmp_path) == 0, "the spool is empty")


async def test_who_is_refused_ends_also_with_something_to_send(
    fake: FakeApi, run_agent: RunAgent, tmp_path: Path
) -> None:
    """Else an agent with a wrong token would wait for ever, and say nothing."""
    async with run_agent("1") as agent:
        fake.flush_ms = 3_600_000
        task = fake.add("echo begun; sleep 600")
        await eventually(lambda: _spooled(tmp_path) > 0, "the spool has the line")
        _kill(agent)
        await agent.ends()
    fake.faults["/sessions"].append(refuse(401))
    async with run_agent("1") as agent:
        assert await agent.ends() == 1
        assert "Set TOKEN" in agent.said
    assert _spooled(tmp_path) > 0
    async with run_agent("1") as agent:
        await fake.until(lambda: fake.log(task, attempt=1) == b"begun\n")
        _kill(agent)


async def test_output_that_could_not_be_kept_at_first_is_kept_later(
    fake: FakeApi, start_agent: StartAgent, tmp_path: Path
) -> None:
    """Without its first piece nobody could send what is written behind it."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    folder = tmp_path / "spool"
    folder.write_text("a file where the folder should be")
    fake.flush_ms = 3_600_000
    async with start_agent(1, flush_s=3600) as worker:
        fake.add(f"echo first; read line < {gate}; echo second; sleep 600")
        await eventually(lambda: worker._spooler._failing, "the first line is not written")
        folder.unlink()
        gate.write_text("go\n")

        def kept() -> list[bytes]:
            spool = Spool(folder, fake.url)
            left = rebuild(spool.recover(), spool.read)
            return [gzip.decompress(parcel.record.chunk.content) for parcel in left.parcels]

        await eventually(lambda: kept() == [b"first\nsecond\n"], "both lines are kept")


async def test_an_outage_larger_than_memory_stops_no_task(
    fake: FakeApi, start_agent: StartAgent, tmp_path: Path
) -> None:
    """The task writes 30 MB to its end while nobody takes any; memory stays bounded."""
    size = 30_000_000
    done = tmp_path / "done"
    task = fake.add(f"openssl rand {size}; touch {done}")  # does not compress
    async with start_agent(buffer_bytes=4_000_000, spool_bytes=100_000_000) as worker:
        await fake.until(lambda: bool(fake.owned))
        fake.away = True
        most = 0

        def ended() -> bool:
            nonlocal most
            most = max(most, worker._outbox.memory.bytes)
            return done.exists()

        await eventually(ended, "the task has ended")
        fake.away = False
        fake.poke()
        result = await fake.result(task)
    assert most < 4_000_000 + 4 * 526_000  # one that was being cut, two read back, one spare
    assert result.stdout is not None
    assert len(fake.log(task)) == result.stdout.bytes == size


async def test_what_was_sent_while_it_was_written_is_gone_in_the_end(
    fake: FakeApi, start_agent: StartAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow disk must not leave it to the next agent, which would send it once more."""
    began, go_on = threading.Event(), threading.Event()
    write = Spool.write

    def slowly(spool: Spool, records: Sequence[Record]) -> list[Place]:
        places = write(spool, records)
        began.set()
        go_on.wait(20)
        return places

    async def when_it_is_written(request: web.Request, answer: Answer) -> web.Response:
        await eventually(began.is_set, "it is being written")
        return await answer()

    monkeypatch.setattr(Spool, "write", slowly)
    fake.standing["/reports"] = when_it_is_written
    async with start_agent(1) as worker:
        await fake.result(fake.add("true"))
        await eventually(lambda: worker._outbox.empty, "all is acknowledged")
        threading.Timer(0.5, go_on.set).start()
    assert not (tmp_path / "spool").exists()
