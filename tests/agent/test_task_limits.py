"""What one task may use, held by the kernel."""

import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from agent import cgroups
from agent.cgroups import Group
from agent.launch import Launch
from agent.process import Exit
from agent.settings import Settings
from agent.task_limits import TaskLimits, task_limits
from tests.agent.conftest import StartAgent
from tests.agent.fake_api import FakeApi
from tests.agent.test_ending import RunAgent

_BIG = f"{sys.executable} -c 'x = bytearray(400_000_000); print(len(x))'"


@pytest.fixture(autouse=True)
def _by_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where control groups cannot be made."""

    def none() -> Path:
        raise OSError("none in this test")

    monkeypatch.setattr(cgroups, "own", none)


async def _said(fake: FakeApi, start_agent: StartAgent, command: str, **settings: Any) -> str:
    task = fake.add(command)
    async with start_agent(**settings):
        await fake.result(task)
    return (fake.log(task) + fake.log(task, "stderr")).decode()


async def test_memory(fake: FakeApi, start_agent: StartAgent) -> None:
    """A task that takes the machine's memory takes the other tasks along."""
    assert "400000000" in await _said(fake, start_agent, _BIG)
    said = await _said(fake, start_agent, f"{_BIG}; ulimit -Hd", task_memory="200M")
    assert "MemoryError" in said
    assert said.split()[0] == str(200 * 1024)


async def test_files_and_processes(fake: FakeApi, start_agent: StartAgent) -> None:
    """Hard limits: a task cannot raise them. Processes are counted over all of the user's."""
    command = "ulimit -Hn; ulimit -Hu"
    said = await _said(fake, start_agent, command, slots=3, task_files=64, task_processes=100)
    assert said.split() == ["64", str(3 * 100 + 512)]


async def test_in_a_sandbox(fake: FakeApi, start_agent: StartAgent) -> None:
    """They hold for the command, not for bwrap."""
    if shutil.which("bwrap") is None:
        pytest.skip("bwrap is missing: install bubblewrap")
    said = await _said(
        fake, start_agent, "ulimit -Hn; ulimit -Hd", isolation="bwrap", task_files=64,
        task_memory="200M",
    )  # fmt: skip
    assert said.split() == ["64", str(200 * 1024)]


def test_a_limit_is_never_above_the_agents_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody but root could set it."""
    monkeypatch.setattr(resource, "getrlimit", lambda number: (10, 20))
    limits = task_limits(Settings(task_files=1000, task_memory="1K"), "0123", 1)
    assert limits.prefix[1:] == ("--data=20:20", "--nofile=20:20", "--")


async def test_processors_cannot_be_shared_out_without_control_groups(
    fake: FakeApi, run_agent: RunAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit that nobody holds must not be believed."""
    monkeypatch.undo()
    if "cpu" in _controllers():
        pytest.skip("control groups may share out processors here")
    async with run_agent("1", TASK_CPUS="1") as agent:
        assert await agent.ends() == 1
    assert "agent: TASK_CPUS needs control groups" in agent.said


def _controllers() -> list[str]:
    try:
        return (cgroups.own() / "cgroup.controllers").read_text().split()
    except OSError:
        return []


# Control groups: what can be shown without controllers, for real; the rest by files.


@pytest.fixture
def hierarchy(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a group that groups can be made in; skip where there is none."""
    monkeypatch.undo()
    try:
        base = cgroups.own()
    except OSError as error:
        pytest.skip(str(error))
    if not os.access(base, os.W_OK):
        pytest.skip(f"{base} cannot be written")
    return base


def test_a_command_runs_in_the_group_of_its_slot(hierarchy: Path) -> None:
    """From before it is started, and what it leaves there is killed, wherever it hides."""
    path = hierarchy / f"dw-test-{os.getpid()}"
    path.mkdir()
    group = Group(path)
    try:
        left = "(env -i setsid sleep 600 </dev/null >/dev/null 2>&1 &)"
        argv = [*group.joining, "bash", "-c", f"cat /proc/self/cgroup; {left}"]
        done = subprocess.run(argv, check=True, capture_output=True, text=True)
        assert any(
            line == f"0::/{path.name}" or line.endswith(f"/{path.name}")
            for line in done.stdout.splitlines()
            if line.startswith("0::")
        )
        assert (path / "cgroup.procs").read_text().split()
        group.empty()
        _until_empty(path)
    finally:
        group.empty()
        _until_empty(path)
        group.remove()
    assert not path.exists()


def _until_empty(path: Path) -> None:
    until_s = time.monotonic() + 10
    while "populated 1" in (path / "cgroup.events").read_text():
        assert time.monotonic() < until_s, "something of it lives on"


def test_groups_that_cannot_be_made_say_why(hierarchy: Path) -> None:
    """As in the group of a terminal, or without the controller."""
    with pytest.raises(OSError, match="has no controllers no-such-thing"):
        cgroups.make(hierarchy, "0123", 1, {}, frozenset({"no-such-thing"}))


async def test_what_was_killed_for_its_memory_says_so(tmp_path: Path) -> None:
    """Signal 9 alone could be anybody's."""
    events = tmp_path / "memory.events"
    events.write_text("low 0\noom 3\noom_kill 2\n")
    limits = TaskLimits((), (), 1024**3, [Group(tmp_path)])
    launch = limits.into(Launch(("true",), None, {}), 0)
    assert launch.argv == ("/bin/sh", *cgroups.JOIN[1:], f"{tmp_path}/cgroup.procs", "true")
    assert launch.verdict is not None
    killed = Exit("signal", None, 9, None, 1.0)
    assert await launch.verdict(killed) == killed
    events.write_text("low 0\noom 3\noom_kill 3\n")
    end = await launch.verdict(killed)
    assert end.message == "killed for its memory: TASK_MEMORY is 1.0 GiB"


def test_a_group_has_the_limits_that_were_asked_for(tmp_path: Path) -> None:
    """In the kernel's words, and the agent's two processes are out of the way."""
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    (tmp_path / "cgroup.subtree_control").write_text("")
    files = {"memory.max": "1000", "cpu.max": "150000 100000"}
    groups = cgroups.make(tmp_path, "0123", 2, files, frozenset({"cpu", "memory"}))
    assert [group.path.name for group in groups] == ["dw-0123-0", "dw-0123-1"]
    for group in groups:
        assert {name: (group.path / name).read_text() for name in files} == files
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+cpu +memory"
    assert (tmp_path / "dw-0123-agent" / "cgroup.procs").read_text() == str(os.getpid())
