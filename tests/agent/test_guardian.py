"""Whatever dies: the worker, its guardian, or both. No process of a task lives on."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest
from aiohttp import web

from tests.agent.conftest import eventually, leaving, runs, told_pid
from tests.agent.fake_api import Answer, FakeApi
from tests.agent.test_ending import RunAgent

_FORGOTTEN = "</dev/null >/dev/null 2>&1 &"


@pytest.fixture(params=["linux", "portable"])
def portable(request: pytest.FixtureRequest) -> bool:
    """Run the test with Linux's own calls, and without."""
    return bool(request.param == "portable")


async def test_a_killed_worker_leaves_nothing(
    fake: FakeApi, run_agent: RunAgent, tmp_path: Path, portable: bool
) -> None:
    """The kernel kills what takes the most memory; one line says what became of it."""
    pids = [tmp_path / name for name in ("leader", "child", "detached", "wiped")]
    leader, child, detached, wiped = pids
    deaf = f"(trap '' TERM; echo $BASHPID > {child}; while :; do sleep 0.05; done) {_FORGOTTEN}"
    lost = "" if portable else f"{leaving(detached)}; {leaving(wiped, wiped=True)}; "
    fake.add(f"{deaf} {lost} echo $$ > {leader}; exec sleep 600")
    async with run_agent("1", portable=portable, KILL_GRACE_S="0.3") as agent:
        left = [await told_pid(pid) for pid in (pids[:2] if portable else pids)]
        agent.worker().kill()
        assert await agent.ends() == 128 + signal.SIGKILL
    assert not any(runs(pid) for pid in left)
    assert "agent: its worker was killed by signal 9; ended " in agent.said
    assert "that its tasks had left" in agent.said


async def test_a_worker_that_is_killed_before_it_has_listened(
    fake: FakeApi, run_agent: RunAgent, tmp_path: Path
) -> None:
    """It was told to stop and stood still: what was sent to it is lost with it."""
    pid = tmp_path / "pid"
    fake.add(f"echo $$ > {pid}; exec sleep 600")
    async with run_agent("1") as agent:
        left = await told_pid(pid)
        guardian, worker = psutil.Process(agent.process.pid), agent.worker()
        worker.suspend()
        woken = guardian.num_ctx_switches().voluntary
        guardian.terminate()
        await eventually(lambda: guardian.num_ctx_switches().voluntary > woken, "it is told")
        worker.kill()
        assert await agent.ends() == 128 + signal.SIGKILL
    assert not runs(left)
    assert "Traceback" not in agent.said


async def test_what_a_killed_worker_leaves_can_tidy_up(
    fake: FakeApi, run_agent: RunAgent, tmp_path: Path
) -> None:
    """Emulators and browsers are asked first, as after a cancellation."""
    pid, done = tmp_path / "pid", tmp_path / "done"
    fake.add(
        f'setsid bash -c \'trap "echo tidied > {done}; exit" TERM; echo $$ > {pid}; '
        f"while :; do sleep 0.01; done' {_FORGOTTEN} wait"
    )
    async with run_agent("1", KILL_GRACE_S="20") as agent:
        await told_pid(pid)
        agent.worker().kill()
        assert await agent.ends() == 128 + signal.SIGKILL
    assert done.read_text() == "tidied\n"


async def test_a_signal_ends_the_grace_after_a_killed_worker(
    fake: FakeApi, run_agent: RunAgent, tmp_path: Path
) -> None:
    """Who presses Ctrl-C does not want to wait."""
    pid, asked = tmp_path / "pid", tmp_path / "asked"
    fake.add(  # its pipes are broken then
        f"exec >/dev/null 2>&1; trap 'echo $$ > {asked}' TERM; echo $$ > {pid}; "
        "while :; do sleep 0.01; done"
    )
    async with run_agent("1", KILL_GRACE_S="600") as agent:
        left = await told_pid(pid)
        agent.worker().kill()
        await told_pid(asked)  # asked, and in its grace
        agent.process.send_signal(signal.SIGINT)
        assert await agent.ends() == 128 + signal.SIGKILL
    assert not runs(left)


async def test_a_killed_guardian_ends_its_worker(
    fake: FakeApi, run_agent: RunAgent, tmp_path: Path, portable: bool
) -> None:
    """Nobody would guard it. It reports its tasks, so that they need not wait for the lease."""
    pid = tmp_path / "pid"
    async with run_agent("1", portable=portable) as agent:
        await agent.hears("agent tester")
        worker = agent.worker()
        agent.process.send_signal(signal.SIGSTOP)  # it has not listened to all when it dies
        deaf = f"trap '' TERM; echo $$ > {pid}; while :; do sleep 0.05; done"
        task = fake.add(deaf, exclusive=True)
        left = await told_pid(pid)
        agent.process.kill()
        await agent.hears("the guardian of this agent was killed")
        async with run_agent("1") as early:  # the folder is still in use
            assert await early.ends() == 1
            assert "another agent uses the folder" in early.said
        assert (await fake.result(task)).reason == "agent_lost"
        await eventually(lambda: not worker.is_running(), "the worker has ended")
    assert not runs(left)
    assert fake.requests[-1][1].closing


async def test_the_next_agent_ends_what_both_have_left(
    fake: FakeApi, run_agent: RunAgent, tmp_path: Path
) -> None:
    """Before it is given anything: the same task may come, and find its emulator in use."""
    pids = [tmp_path / name for name in ("leader", "detached", "wiped")]
    leader, detached, wiped = pids
    hidden = f"env -i sh -c 'echo $$ > {wiped}; exec sleep 600' {_FORGOTTEN}"
    fake.add(f"{hidden} {leaving(detached)}; echo $$ > {leader}; trap '' TERM; sleep 600; wait")
    left: list[int] = []
    seen: list[bool] = []

    async def look(request: web.Request, answer: Answer) -> web.Response:
        seen.extend(runs(pid) for pid in left)
        return await answer()

    async with run_agent("1") as agent:
        left += [await told_pid(pid) for pid in pids]
        worker = agent.worker()
        agent.process.send_signal(signal.SIGSTOP)  # else it may be quicker than we are
        worker.kill()
        agent.process.kill()
        await agent.ends()
    assert all(runs(pid) for pid in left)
    fake.end_sessions()
    fake.standing["/sessions"] = look
    async with run_agent("1") as agent:
        await agent.hears("that tasks of a dead agent had left")
        await agent.hears("agent tester")
    assert seen == [False] * 3


async def test_a_copy_of_the_folder_harms_nobody(
    fake: FakeApi, run_agent: RunAgent, tmp_path: Path
) -> None:
    """It is another agent's, and must not end what the first one runs."""
    pid = tmp_path / "pid"
    fake.add(f"echo $$ > {pid}; exec sleep 600")
    async with run_agent("1") as first:
        running = await told_pid(pid)
        copy = tmp_path / "copy"
        copy.mkdir()
        (copy / "id").write_text((tmp_path / "state" / "id").read_text())
        async with run_agent("1", STATE_DIR=str(copy)) as second:
            await second.hears("agent tester")
            assert runs(running)
            second.process.terminate()
            assert await second.ends() == 0
        assert await first.stops() == 0


async def test_a_terminal_signals_both_and_counts_once(
    fake: FakeApi, run_agent: RunAgent, tmp_path: Path, portable: bool
) -> None:
    """Ctrl-C reaches the whole process group: once it drains, twice it stops."""
    pid = tmp_path / "pid"
    task = fake.add(f"echo $$ > {pid}; exec sleep 600")
    async with run_agent("1", portable=portable) as agent:
        await told_pid(pid)
        os.killpg(agent.process.pid, signal.SIGINT)
        await agent.hears("finishing 1 task; press Ctrl-C again to stop it")
        await fake.until(lambda: getattr(fake.requests[-1][1], "draining", False), "it drains")
        assert not fake.results
        os.killpg(agent.process.pid, signal.SIGINT)
        assert (await fake.result(task)).reason == "agent_lost"
        assert await agent.ends() == 0


async def test_signals_do_what_they_do_elsewhere_in_a_task(
    fake: FakeApi, run_agent: RunAgent
) -> None:
    """What the agent ignores for itself must not be ignored by what it starts."""
    mask = fake.add("grep -E '^Sig(Blk|Ign):' /proc/self/status")
    # Under nohup SIGHUP is ignored by all, and that is meant. Bash has its own mind about SIGQUIT.
    nohup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    names = ("INT", "TERM") if nohup else ("INT", "TERM", "HUP")
    ended = {name: fake.add(f"kill -{name} $$; echo survived") for name in names}
    async with run_agent("2") as agent:
        for name, task in ended.items():
            result = await fake.result(task)
            assert result.signal == signal.Signals[f"SIG{name}"]
        await fake.result(mask)
        agent.process.terminate()
        assert await agent.ends() == 0
    # The threads library keeps those from 32 on for itself: this test may have inherited one.
    standard = ((1 << 31) - 1) & ~nohup
    masks = {int(line.split(b":")[1], 16) & standard for line in fake.log(mask).splitlines()}
    assert masks == {0}


async def test_an_exclusive_task_ends_with_its_lease_though_the_worker_stands_still(
    fake: FakeApi, run_agent: RunAgent, tmp_path: Path, portable: bool
) -> None:
    """A debugger, a hypervisor or a full memory can stop a process, and others get its tasks."""
    fake.lease_s = 3
    loop = asyncio.get_running_loop()
    heard_s: list[float] = []

    async def note(request: web.Request, answer: Answer) -> web.Response:
        heard_s.append(loop.time())
        return await answer()

    fake.standing["/sessions"] = fake.standing["/beats"] = note
    pids = [tmp_path / name for name in ("exclusive", "detached", "other")]
    exclusive, detached, other = pids
    left = "" if portable else f"{leaving(detached)};"
    task = fake.add(f"{left} echo $$ > {exclusive}; exec sleep 600", exclusive=True)
    fake.add(f"echo $$ > {other}; exec sleep 600")
    async with run_agent("2", portable=portable) as agent:
        doomed = [await told_pid(pid) for pid in (pids[:1] if portable else pids[:2])]
        bystander = await told_pid(other)
        worker = agent.worker()
        worker.suspend()
        try:
            # The API counts the lease from the last request that it has got.
            async with asyncio.timeout(heard_s[-1] + fake.lease_s - loop.time()):
                while any(runs(pid) for pid in doomed):
                    await asyncio.sleep(0.01)
            assert runs(bystander)
        finally:
            worker.resume()
        result = await fake.result(task)  # the fake ends no session by itself
        assert await agent.stops() == 0
    assert (result.reason, result.signal) == ("agent_lost", 9)
    assert not runs(bystander)


async def test_what_was_there_before_is_left_alone(
    fake: FakeApi, run_agent: RunAgent, tmp_path: Path
) -> None:
    """A start script may leave a child to us when it becomes the agent: `exec > >(tee log)`."""
    pid = tmp_path / "pid"
    script = f'sleep 600 </dev/null >/dev/null 2>&1 & echo $! > {pid}; exec "$0" -m agent 1'
    agent = await asyncio.create_subprocess_exec(
        "sh", "-c", script, sys.executable,
        env={
            "PATH": os.environ["PATH"], "API_URL": fake.url, "STATE_DIR": str(tmp_path / "state")
        },
    )  # fmt: skip
    before = await told_pid(pid)
    try:
        await fake.until(lambda: bool(fake.sessions), "a session")
        agent.terminate()
        assert await asyncio.wait_for(agent.wait(), 20) == 0
        assert runs(before)
    finally:
        os.kill(before, signal.SIGKILL)


async def test_an_agent_that_ends_leaves_nothing(
    fake: FakeApi, run_agent: RunAgent, tmp_path: Path
) -> None:
    """Also not what has wiped its environment, so that nobody knows whose it is."""
    pid = tmp_path / "pid"
    task = fake.add(leaving(pid, wiped=True))
    async with run_agent("1") as agent:
        await fake.result(task)
        agent.process.terminate()
        left = await told_pid(pid)
        assert await agent.ends() == 0
    assert not runs(left)
    assert "had left" not in agent.said  # the worker saw to it; its guardian may be dead
