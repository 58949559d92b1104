"""Tasks in containers, with a stand-in for the engine: what it is asked, and that none is left."""

import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.agent.conftest import eventually, told_pid
from tests.agent.engine import Engine, engine
from tests.agent.fake_api import FakeApi
from tests.agent.test_ending import RunAgent


@pytest.fixture
async def docker(short_folder: Path) -> AsyncIterator[Engine]:
    """Start the stand-in."""
    async with engine(short_folder) as one:
        yield one


def _settings(docker: Engine, **more: str) -> dict[str, Any]:
    return {"DOCKER": docker.program, "ISOLATION": "docker", "IMAGE": "plain:1"} | more


async def test_a_task_runs_in_its_image(fake: FakeApi, run_agent: RunAgent, docker: Engine) -> None:
    """With its environment, its folder, and nothing of the agent's."""
    task = fake.add(
        "echo $MINE $DW_TASK_ID ${AWS_SECRET-unset}; echo oops >&2; touch x; exit 3",
        env={"MINE": "a = b #c"}, image="python:3.12", isolation="docker",
    )  # fmt: skip
    limits = {"TASK_MEMORY": "64M", "TASK_CPUS": "1.5", "TASK_PROCESSES": "20", "TASK_FILES": "99"}
    settings = _settings(
        docker, IMAGES="node:*,python:3.*", NETWORK="none", AWS_SECRET="s", **limits
    )
    async with run_agent("1", **settings) as agent:
        result = await fake.result(task)
        agent.process.terminate()
        assert await agent.ends() == 0
    assert (result.reason, result.exit_code) == ("exit", 3)
    assert fake.log(task) == f"a = b #c {task} unset\n".encode()
    assert fake.log(task, "stderr") == b"oops\n"
    assert fake.sessions[0].labels == ("isolation=bwrap", "isolation=docker")
    (one,) = docker.all.values()
    assert one.image == "python:3.12"
    given = dict(one.options)
    assert given["--network"] == "none"
    assert given["--cap-drop"] == "ALL"
    assert given["--security-opt"] == "no-new-privileges"
    assert given["--memory"] == given["--memory-swap"] == str(64 * 1024**2)
    assert (given["--cpus"], given["--pids-limit"]) == ("1.5", "20")
    assert given["--ulimit"] == "nofile=99"
    assert {"--init", "--rm"} <= set(given)
    assert "a = b #c" not in " ".join(docker.asked[-1] + [word for a in docker.asked for word in a])


async def test_what_names_no_image_gets_the_agents(
    fake: FakeApi, run_agent: RunAgent, docker: Engine
) -> None:
    """A task that asks for less than its agent gives gets that, too."""
    tasks = [fake.add("true"), fake.add("true", isolation="bwrap")]
    async with run_agent("1", **_settings(docker)) as agent:
        for task in tasks:
            assert (await fake.result(task)).exit_code == 0
        agent.process.terminate()
        assert await agent.ends() == 0
    assert [one.image for one in docker.all.values()] == ["plain:1"] * 2


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"image": "evil:1"}, "refuses the image 'evil:1': IMAGES does not name it"),
        ({"env": {"CI_A\nBASH_ENV": "evil"}}, "cannot hand 'CI_A\\nBASH_ENV' to a container: that"),
        ({"secrets": {"#A": "evilevil"}}, "cannot hand '#A' to a container: that is no name"),
        ({"image": "--privileged"}, "refuses the image '--privileged'"),
        ({"env": {"KEY": "two\nlines"}}, "cannot hand 'KEY' to a container"),
    ],
)
async def test_what_is_refused(
    fake: FakeApi, run_agent: RunAgent, docker: Engine, fields: dict[str, Any], said: str
) -> None:
    """It blames the agent, not the task, and says which setting it was."""
    task = fake.add("true", isolation="docker", **fields)
    async with run_agent("1", **_settings(docker, IMAGES="*:1x,--*")) as agent:
        result = await fake.result(task)
        agent.process.terminate()
        assert await agent.ends() == 0
    assert result.reason == "spawn_error"
    assert result.message is not None
    assert result.message.startswith(f"agent tester {said}")
    assert not docker.all


@pytest.mark.parametrize("end", ["cancel", "timeout"])
async def test_a_container_ends_with_its_task(
    fake: FakeApi, run_agent: RunAgent, docker: Engine, end: str
) -> None:
    """It is asked, and when it is deaf it is removed before the result is told."""
    deaf = "trap '' TERM; echo ready; while :; do sleep 0.05; done"
    task = fake.add(deaf, timeout=1 if end == "timeout" else None)
    async with run_agent("1", FLUSH_S="0.05", KILL_GRACE_S="0.3", **_settings(docker)) as agent:
        await fake.until(lambda: bool(fake.owned))
        await eventually(lambda: bool(docker.running), "it runs")
        (name,) = docker.running
        if end == "cancel":
            fake.cancelled.add((task, 1))
            fake.poke()
        result = await fake.result(task)
        await eventually(lambda: not docker.running, "it has ended")
        agent.process.terminate()
        assert await agent.ends() == 0
    assert result.reason == ("cancelled" if end == "cancel" else "timeout")
    assert ["rm", "--force", name] in docker.asked


async def test_a_container_may_tidy_up(
    fake: FakeApi, run_agent: RunAgent, docker: Engine, tmp_path: Path
) -> None:
    """The command line hands SIGTERM on; nobody kills it within its grace."""
    pid = tmp_path / "pid"
    task = fake.add(
        f'trap "echo tidied; exit 0" TERM; echo $$ > {pid}; while :; do sleep 0.01; done'
    )
    async with run_agent("1", KILL_GRACE_S="20", **_settings(docker)) as agent:
        await told_pid(pid)
        fake.cancelled.add((task, 1))
        fake.poke()
        result = await fake.result(task)
        agent.process.terminate()
        assert await agent.ends() == 0
    assert result.reason == "cancelled"
    assert fake.log(task) == b"tidied\n"


async def test_a_signal_is_told_as_one(fake: FakeApi, run_agent: RunAgent, docker: Engine) -> None:
    """The engine says 128 + its number."""
    task = fake.add("kill -SEGV $$")
    async with run_agent("1", **_settings(docker)) as agent:
        result = await fake.result(task)
        agent.process.terminate()
        assert await agent.ends() == 0
    assert (result.reason, result.exit_code, result.signal) == ("signal", None, signal.SIGSEGV)


async def test_a_killed_worker_leaves_no_container(
    fake: FakeApi, run_agent: RunAgent, docker: Engine
) -> None:
    """They are no children of the agent's: its guardian asks the engine."""
    fake.add("trap '' TERM; while :; do sleep 0.05; done")
    async with run_agent("1", KILL_GRACE_S="0.3", **_settings(docker)) as agent:
        await eventually(lambda: bool(docker.running), "it runs")
        agent.worker().kill()
        assert await agent.ends() == 128 + signal.SIGKILL
    await eventually(lambda: not docker.running, "it has ended")
    assert "removed containers that its tasks had left: 1" in agent.said


async def test_the_next_agent_removes_what_both_have_left(
    fake: FakeApi, run_agent: RunAgent, docker: Engine
) -> None:
    """Before it is given anything. Nothing marks its processes, which may be another user's."""
    fake.add("exec env -i sleep 600")
    async with run_agent("1", **_settings(docker)) as agent:
        await eventually(lambda: bool(docker.running), "it runs")
        worker = agent.worker()
        agent.process.send_signal(signal.SIGSTOP)  # else it may be quicker than we are
        worker.kill()
        agent.process.kill()
        await agent.ends()
    assert docker.running
    fake.end_sessions()
    fake.pending.clear()
    async with run_agent("1", **_settings(docker)) as agent:
        await agent.hears("agent tester")
        await eventually(lambda: not docker.running, "it has ended")
        agent.process.terminate()
        assert await agent.ends() == 0


async def test_an_exclusive_one_ends_with_its_lease_though_the_worker_stands_still(
    fake: FakeApi, run_agent: RunAgent, docker: Engine
) -> None:
    """Killing the command line would leave it running beside the next attempt."""
    fake.lease_s = 3
    fake.add("while :; do sleep 0.05; done", exclusive=True)
    async with run_agent("1", **_settings(docker)) as agent:
        await eventually(lambda: bool(docker.running), "it runs")
        worker = agent.worker()
        worker.suspend()
        try:
            await eventually(lambda: not docker.running, "it has ended")
        finally:
            worker.resume()
        await fake.until(lambda: bool(fake.results), "its result")
        agent.process.terminate()
        assert await agent.ends() == 0


async def test_an_engine_that_fails_blames_the_machine(
    fake: FakeApi, run_agent: RunAgent, docker: Engine
) -> None:
    """The task is innocent, and may run elsewhere."""
    async with run_agent("1", **_settings(docker)) as agent:
        await agent.hears("agent tester")
        docker.broken = True
        task = fake.add("true")
        result = await fake.result(task)
        agent.process.terminate()
        assert await agent.ends() == 0
    assert result.reason == "spawn_error"
    assert fake.log(task, "stderr") == b"no space left on device\n"


async def test_without_an_engine_an_agent_that_needs_it_does_not_start(
    fake: FakeApi, run_agent: RunAgent
) -> None:
    """It must not run tasks without; one line says why."""
    settings = {"DOCKER": "/no/docker", "ISOLATION": "docker", "IMAGE": "plain:1"}
    async with run_agent("1", **settings) as agent:
        assert await agent.ends() == 1
    assert "agent: ISOLATION=docker is not available here: " in agent.said
