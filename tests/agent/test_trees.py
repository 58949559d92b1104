"""What a task started ends with it, also where it has left the task's process group."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from agent.link import Link
from agent.process import Rules, start
from agent.process_table import Table
from agent.trees import Trees
from tests.agent.conftest import StartAgent, eventually, leaving, runs, told_pid
from tests.agent.fake_api import FakeApi
from tests.agent.test_ending import RunAgent

_SILENT = "</dev/null >/dev/null 2>&1"


def _sleeper(pid: Path) -> str:
    return f"sh -c 'echo $$ > {pid}; exec sleep 600'"


def _ways_out(pid: Path) -> dict[str, str]:
    """Commands that leave their process group, by how they do it."""
    return {
        "a session of its own": f"setsid {_sleeper(pid)} & wait",
        "with its pipes closed": f"setsid {_sleeper(pid)} {_SILENT} & wait",
        "forked twice": f"(setsid {_sleeper(pid)} {_SILENT} &); sleep 600",
        "with its environment wiped": f"env -i setsid {_sleeper(pid)} {_SILENT} & wait",
        "a process group of its own": f"set -m; ({_sleeper(pid)} {_SILENT} &); sleep 600",
    }


@pytest.mark.parametrize("end", ["cancel", "timeout"])
@pytest.mark.parametrize("way", _ways_out(Path()))
async def test_what_left_the_group_ends_with_it(
    fake: FakeApi, run_agent: RunAgent, tmp_path: Path, way: str, end: str
) -> None:
    """Emulators and browsers do that, and would hold the device or the port for ever."""
    pid = tmp_path / "pid"
    timeout = 1 if end == "timeout" else None
    task = fake.add(_ways_out(pid)[way], timeout=timeout)
    other = fake.add(_ways_out(tmp_path / "other")[way])
    async with run_agent("2") as agent:
        left, bystander = await told_pid(pid), await told_pid(tmp_path / "other")
        if end == "cancel":
            fake.cancelled.add((task, 1))
            fake.poke()
        result = await fake.result(task)
        assert result.reason == ("cancelled" if end == "cancel" else "timeout")
        await eventually(lambda: not runs(left), "it has ended")
        assert runs(bystander)
        fake.cancelled.add((other, 1))
        fake.poke()
        await fake.result(other)
        agent.process.terminate()
        assert await agent.ends() == 0
    assert "had left" not in agent.said  # the guardian had nothing to do


@pytest.mark.parametrize("way", ["a session of its own", "with its environment wiped"])
async def test_descendants_are_found_without_adopting(
    fake: FakeApi, start_agent: StartAgent, tmp_path: Path, way: str
) -> None:
    """Where the system has no subreapers, a child of a child is still one."""
    pid = tmp_path / "pid"
    task = fake.add(_ways_out(pid)[way])
    async with start_agent():
        left = await told_pid(pid)
        fake.cancelled.add((task, 1))
        fake.poke()
        await fake.result(task)
        await eventually(lambda: not runs(left), "it has ended")


async def test_the_whole_tree_may_write_its_last_line(
    fake: FakeApi, run_agent: RunAgent, tmp_path: Path
) -> None:
    """A test's server says why it stopped; it is asked as the command is, and waited for."""
    tidy = 'trap "sleep 0.3; echo tidied; exit" TERM; echo ready'
    loop = "while :; do sleep 0.01; done"
    task = fake.add(f"setsid bash -c '{tidy}; {loop}' & wait")
    async with run_agent("1", FLUSH_S="0.05", KILL_GRACE_S="20") as agent:
        fake.flush_ms = 50
        await fake.until(lambda: fake.log(task) == b"ready\n")
        fake.cancelled.add((task, 1))
        fake.poke()
        assert (await fake.result(task)).signal == signal.SIGTERM
        agent.process.terminate()
        assert await agent.ends() == 0
    assert fake.log(task) == b"ready\ntidied\n"


async def test_what_left_the_group_has_time_to_tidy_up(
    fake: FakeApi, run_agent: RunAgent, tmp_path: Path
) -> None:
    """Nothing shows that it still runs, but that it is there; the result waits for it."""
    pid, done = tmp_path / "pid", tmp_path / "done"
    tidy = f'trap "sleep 0.3; echo tidied > {done}; exit" TERM; echo $$ > {pid}'
    task = fake.add(f"setsid bash -c '{tidy}; while :; do sleep 0.01; done' {_SILENT} & wait")
    async with run_agent("1", KILL_GRACE_S="20") as agent:
        await told_pid(pid)
        fake.cancelled.add((task, 1))
        fake.poke()
        await fake.result(task)
        assert done.read_text() == "tidied\n"
        agent.process.terminate()
        assert await agent.ends() == 0


async def test_what_is_deaf_in_a_session_of_its_own_gets_its_grace_and_no_more(
    fake: FakeApi, run_agent: RunAgent, tmp_path: Path
) -> None:
    """The result waits for it, so that nothing of the attempt runs beside the next one."""
    pid = tmp_path / "pid"
    deaf = f"setsid bash -c 'trap \"\" TERM; echo $$ > {pid}; while :; do sleep 0.05; done'"
    task = fake.add(f"{deaf} {_SILENT} & wait")
    async with run_agent("1", KILL_GRACE_S="0.5") as agent:
        left = await told_pid(pid)
        fake.cancelled.add((task, 1))
        fake.poke()
        result = await fake.result(task)
        await eventually(lambda: not runs(left), "it has ended")
        agent.process.terminate()
        assert await agent.ends() == 0
    assert result.reason == "cancelled"


async def test_a_daemon_ends_with_the_task_that_started_it(
    fake: FakeApi, run_agent: RunAgent, tmp_path: Path
) -> None:
    """Also where the command ends well; what other tasks have started is left alone."""
    pids = [tmp_path / name for name in ("mine", "other")]
    async with run_agent("2") as agent:
        fake.add(_ways_out(pids[1])["forked twice"])
        other = await told_pid(pids[1])
        task = fake.add(leaving(pids[0]))
        assert (await fake.result(task)).exit_code == 0
        left = await told_pid(pids[0])
        await eventually(lambda: not runs(left), "it has ended")
        assert runs(other)
        assert await agent.stops() == 0
    assert not runs(other)


async def test_a_process_that_nobody_knows_waits_for_all_that_may_have_started_it(
    fake: FakeApi, run_agent: RunAgent, tmp_path: Path
) -> None:
    """It hides where it comes from: killed too early, it could be a running task's."""
    gates = [tmp_path / name for name in ("first", "second")]
    for gate in gates:
        os.mkfifo(gate)
    pid = tmp_path / "pid"
    async with run_agent("3") as agent:
        older = fake.add(f"echo > {tmp_path}/up; read line < {gates[0]}")
        await eventually((tmp_path / "up").exists, "the older one runs")
        await fake.result(fake.add(leaving(pid, wiped=True)))
        left = await told_pid(pid)
        younger = fake.add(f"sleep 0.02; echo > {tmp_path}/up2; read line < {gates[1]}")
        await eventually((tmp_path / "up2").exists, "the younger one runs")
        for _ in range(5):
            await fake.result(fake.add("sleep 0.2"))  # each end is a reason to look
        assert runs(left)
        gates[0].write_text("go\n")
        await fake.result(older)
        await eventually(lambda: not runs(left), "it has ended")
        gates[1].write_text("go\n")
        await fake.result(younger)
        agent.process.terminate()
        assert await agent.ends() == 0


async def test_a_process_that_left_the_group_does_not_hold_the_task_open(
    fake: FakeApi, run_agent: RunAgent, tmp_path: Path
) -> None:
    """It holds the pipe: it is killed, not only given up."""
    pid = tmp_path / "pid"
    task = fake.add(f"(setsid {_sleeper(pid)} &); sleep 0.2; echo started")
    async with run_agent("1", PIPE_WAIT_S="0.3") as agent:
        result = await fake.result(task)
        left = await told_pid(pid)
        await eventually(lambda: not runs(left), "it has ended")
        agent.process.terminate()
        assert await agent.ends() == 0
    assert (result.reason, result.exit_code) == ("exit", 0)
    assert result.message is not None
    assert "left behind" in result.message
    assert fake.log(task) == b"started\n"


async def test_what_the_guardian_had_to_kill_is_not_the_tasks_fault() -> None:
    """A test that fails by a signal which was ours would be believed to be broken."""
    with Link(1) as link:
        trees = Trees("0123", "tester", link)
        process = start(
            ("sleep", "600"), cwd=None, env={b"PATH": os.environb[b"PATH"]},
            sink=lambda stream, data: None, rules=Rules(None, None, 1, 1), clock=time.monotonic,
            add_tree=lambda pid: trees.add(pid, trees.mark(7, 2), exclusive=True),
        )  # fmt: skip
        process.resume()
        try:
            (entry,) = link.entries()
            assert entry[1:] == (process.pid, 7, 2, True)
            assert link.guardian.recv(9)  # the guardian is woken
            link.ending(entry)
            os.kill(entry.leader, signal.SIGKILL)
            end = await process.ended
        finally:
            process.abandon()
        assert not [*link.entries()]
    assert (end.reason, end.signal) == ("agent_lost", 9)
    assert end.message is not None
    assert end.message.startswith("agent tester was stopped")


def _zombies(worker: psutil.Process) -> list[psutil.Process]:
    found = []
    for child in worker.children():
        with contextlib.suppress(psutil.NoSuchProcess):  # reaped meanwhile
            if child.status() == psutil.STATUS_ZOMBIE:
                found.append(child)
    return found


def test_a_look_in_which_the_worker_was_stopped_is_soon_followed_by_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What it saw is old by then, and whoever is to be ended may not be in it."""
    now_s = 0.0
    looks: list[float] = []

    def read() -> Table:
        nonlocal now_s
        looks.append(now_s)
        now_s += 11  # SIGSTOP, SIGCONT
        return Table(())

    monkeypatch.setattr("agent.trees.read", read)
    with Link(1) as link:
        trees = Trees("0123", "tester", link, lambda: now_s)
        trees.look()
        now_s += 0.1
        trees.look()
        assert looks == [0], "only just now"
        now_s += 0.2
        trees.look()
        assert len(looks) == 2


def test_a_helper_of_the_agents_own_is_no_orphan() -> None:
    """A `docker rm` was killed as one, and the container ran on."""
    code = """
import subprocess
from agent.link import Link
from agent.trees import Trees
helper = subprocess.Popen(("sleep", "600"))
orphan = subprocess.Popen(("sleep", "600"), start_new_session=True)
Trees("0123", "tester", Link(1))._sweep()
print(orphan.wait(), helper.poll())
helper.kill()
"""
    argv = [sys.executable, "-c", code]
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["-9", "None"]


async def test_adopted_processes_are_reaped(fake: FakeApi, run_agent: RunAgent) -> None:
    """Each takes a number out of some 32,000 until its parent asks how it ended."""
    tasks = [fake.add(f"(sleep 0.{number % 5} &) {_SILENT}") for number in range(200)]
    async with run_agent("8") as agent:
        for task in tasks:
            await fake.result(task)
        worker = agent.worker()
        await eventually(lambda: not worker.children(), "no child is left")
        agent.process.terminate()
        assert await agent.ends() == 0


async def test_adopted_processes_are_reaped_while_their_task_runs(
    fake: FakeApi, run_agent: RunAgent, tmp_path: Path
) -> None:
    """A task may run for days, and leave one every second."""
    done, gate = tmp_path / "done", tmp_path / "gate"
    os.mkfifo(gate)
    orphans = f"for i in $(seq 200); do (true & true & ) {_SILENT}; done"
    task = fake.add(f"{orphans}; echo > {done}; read line < {gate}")
    async with run_agent("1") as agent:
        await eventually(done.exists, "it has left many")
        worker = agent.worker()
        await eventually(lambda: not _zombies(worker), "all are reaped")
        gate.write_text("go\n")
        await fake.result(task)
        agent.process.terminate()
        assert await agent.ends() == 0
