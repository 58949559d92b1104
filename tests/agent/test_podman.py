"""Tasks in containers of a real podman: what the stand-in of `test_containers` cannot know."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agent.conftest import eventually
from tests.agent.fake_api import FakeApi
from tests.agent.podman import IMAGE, Podman
from tests.agent.test_ending import RunAgent


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    """Make one, or skip and say why."""
    made = Podman(tmp_path_factory.mktemp("podman"))
    if why := made.make():
        pytest.skip(why)
    yield made
    made.close()


def _settings(podman: Podman, **more: str) -> dict[str, Any]:
    settings = {"DOCKER": podman.program, "ISOLATION": "docker", "IMAGE": IMAGE}
    return settings | podman.environ | more


async def test_a_task_runs_in_a_container(
    fake: FakeApi, run_agent: RunAgent, podman: Podman
) -> None:
    """With its environment, its folder, both streams and its exit code, and nothing of ours."""
    task = fake.add(
        'echo "[$MINE] $DW_TASK_ID ${AWS_SECRET-unset} $PWD $HOME"; echo oops >&2; echo x >x; '
        "cat x; ls -A /root /home; exit 3",
        env={"MINE": ' a = "b" #c '},
        secrets={"KEY": "hunter2hunter2"},
    )  # fmt: skip
    secret = fake.add('echo "[$KEY]"', secrets={"KEY": "hunter2hunter2"})
    async with run_agent("2", **_settings(podman, NETWORK="none", AWS_SECRET="s")) as agent:
        result = await fake.result(task)
        await fake.result(secret)
        agent.process.terminate()
        assert await agent.ends() == 0
    print(fake.log(task), fake.log(task, "stderr"), fake.log(secret))
    assert (result.reason, result.exit_code) == ("exit", 3)
    assert fake.log(task).startswith(f'[ a = "b" #c ] {task} unset /work /work\nx\n'.encode())
    assert fake.log(task, "stderr").startswith(b"oops\n")
    assert fake.log(secret) == b"[***]\n"
    assert podman.there() == []


@pytest.mark.parametrize("end", ["cancel", "timeout"])
async def test_a_deaf_container_ends_with_its_task(
    fake: FakeApi, run_agent: RunAgent, podman: Podman, end: str
) -> None:
    """Killing the command line would not do it."""
    deaf = "trap '' TERM; echo ready; while :; do sleep 0.05; done"
    task = fake.add(deaf, timeout=2 if end == "timeout" else None)
    async with run_agent("1", FLUSH_S="0.05", KILL_GRACE_S="0.3", **_settings(podman)) as agent:
        await fake.until(lambda: fake.log(task) == b"ready\n")
        if end == "cancel":
            fake.cancelled.add((task, 1))
            fake.poke()
        result = await fake.result(task)
        assert podman.there() == []
        agent.process.terminate()
        assert await agent.ends() == 0
    assert result.reason == ("cancelled" if end == "cancel" else "timeout")


async def test_a_container_may_tidy_up(fake: FakeApi, run_agent: RunAgent, podman: Podman) -> None:
    """It is asked to end, once."""
    task = fake.add('trap "echo tidied" TERM; echo ready; sleep 600 & wait; sleep 0.3; exit 5')
    async with run_agent("1", FLUSH_S="0.05", KILL_GRACE_S="20", **_settings(podman)) as agent:
        await fake.until(lambda: fake.log(task) == b"ready\n")
        fake.cancelled.add((task, 1))
        fake.poke()
        result = await fake.result(task)
        agent.process.terminate()
        assert await agent.ends() == 0
    assert result.reason == "cancelled"
    assert fake.log(task) == b"ready\ntidied\n"
    assert podman.there() == []


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
async def test_a_signal_is_told_as_one(
    fake: FakeApi, run_agent: RunAgent, podman: Podman, number: signal.Signals
) -> None:
    """The engine says 128 + its number."""
    task = fake.add(f"kill -{number} $$")
    async with run_agent("1", **_settings(podman)) as agent:
        result = await fake.result(task)
        agent.process.terminate()
        assert await agent.ends() == 0
    assert (result.reason, result.exit_code, result.signal) == ("signal", None, number)


async def test_tasks_beside_each_other_leave_each_other_alone(
    fake: FakeApi, run_agent: RunAgent, podman: Podman
) -> None:
    """What an engine starts for one is no child of its command line, and no orphan of ours."""
    long = fake.add("for i in 1 2 3 4 5 6; do echo $i; sleep 0.5; done")
    short = [fake.add("echo $DW_TASK_ID") for _ in range(6)]
    async with run_agent("2", **_settings(podman)) as agent:
        for task in short:
            result = await fake.result(task)
            assert (result.reason, result.exit_code) == ("exit", 0)
        result = await fake.result(long)
        agent.process.terminate()
        assert await agent.ends() == 0
    assert (result.reason, result.exit_code) == ("exit", 0)
    assert fake.log(long) == b"1\n2\n3\n4\n5\n6\n"
    assert [fake.log(task) for task in short] == [b"%d\n" % task for task in short]
    assert podman.there() == []


async def test_a_killed_worker_leaves_no_container(
    fake: FakeApi, run_agent: RunAgent, podman: Podman
) -> None:
    """They are no children of the agent's: its guardian asks the engine."""
    task = fake.add("trap '' TERM; echo ready; while :; do sleep 0.05; done")
    async with run_agent("1", FLUSH_S="0.05", KILL_GRACE_S="0.3", **_settings(podman)) as agent:
        await fake.until(lambda: fake.log(task) == b"ready\n")
        agent.worker().kill()
        assert await agent.ends() == 128 + signal.SIGKILL
    assert podman.there() == []


async def test_the_next_agent_removes_what_both_have_left(
    fake: FakeApi, run_agent: RunAgent, podman: Podman
) -> None:
    """Before it is given anything. Nothing marks its processes, which may be another user's."""
    task = fake.add("echo ready; exec env -i sleep 600")
    async with run_agent("1", FLUSH_S="0.05", **_settings(podman)) as agent:
        await fake.until(lambda: fake.log(task) == b"ready\n")
        worker = agent.worker()
        agent.process.send_signal(signal.SIGSTOP)  # else it may be quicker than we are
        worker.kill()
        agent.process.kill()
        await agent.ends()
    assert len(podman.running()) == 1
    fake.end_sessions()
    fake.pending.clear()
    async with run_agent("1", **_settings(podman)) as agent:
        await agent.hears("agent tester")
        assert podman.there() == []
        agent.process.terminate()
        assert await agent.ends() == 0


async def test_an_exclusive_one_ends_with_its_lease_though_the_worker_stands_still(
    fake: FakeApi, run_agent: RunAgent, podman: Podman
) -> None:
    """Killing the command line would leave it running beside the next attempt."""
    fake.lease_s = 3
    task = fake.add("echo ready; while :; do sleep 0.05; done", exclusive=True)
    async with run_agent("1", FLUSH_S="0.05", **_settings(podman)) as agent:
        await fake.until(lambda: fake.log(task) == b"ready\n")
        worker = agent.worker()
        worker.suspend()
        try:
            await eventually(lambda: not podman.running(), "it has ended")
        finally:
            worker.resume()
        await fake.until(lambda: bool(fake.results), "its result")
        agent.process.terminate()
        assert await agent.ends() == 0


async def test_an_unknown_image_blames_the_machine(
    fake: FakeApi, run_agent: RunAgent, podman: Podman
) -> None:
    """The engine says why, and the task may run elsewhere."""
    task = fake.add("true", image="localhost/nobody-made-this:1", isolation="docker")
    async with run_agent("1", **_settings(podman, IMAGES="localhost/*")) as agent:
        result = await fake.result(task)
        agent.process.terminate()
        assert await agent.ends() == 0
    assert result.reason == "spawn_error"
    assert b"nobody-made-this" in fake.log(task, "stderr")
    assert podman.there() == []


async def test_a_limit_of_memory_is_that_of_the_container(
    fake: FakeApi, run_agent: RunAgent, podman: Podman
) -> None:
    """And nothing of it is left where the agent was started: conmon writes a file named `oom`."""
    task = fake.add("x=$(printf '%0100000000d' 1); echo ${#x}")
    async with run_agent("1", **_settings(podman, TASK_MEMORY="64M")) as agent:
        result = await fake.result(task)
        agent.process.terminate()
        assert await agent.ends() == 0
    if result.reason == "spawn_error":
        pytest.skip(f"no limits of memory here: {fake.log(task, 'stderr').decode()}")
    assert (result.reason, result.signal) == ("signal", signal.SIGKILL)
    assert not Path("oom").exists()
