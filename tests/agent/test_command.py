"""`python -m agent` as people use it."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from tests.agent.fake_api import FakeApi, refuse
from tests.agent.test_ending import RunAgent


async def test_a_prefix_and_a_token(fake: FakeApi, run_agent: RunAgent) -> None:
    """An API may live under a path of a proxy; tasks do not learn the token."""
    task = fake.add("echo ${TOKEN-unset}")
    async with run_agent(
        "1", API_URL=f"{fake.url}/prefix/", TOKEN="s3cret", LABELS="a, b=c"
    ) as one:
        await fake.result(task)
        one.process.terminate()
        assert await one.ends() == 0
    assert fake.log(task) == b"unset\n"
    assert fake.tokens == {"Bearer s3cret"}
    labels = fake.sessions[0].labels
    assert labels[:2] == ("a", "b=c")
    assert all(label.startswith("isolation=") for label in labels[2:])
    assert "s3cret" not in one.said


async def test_two_agents_need_two_folders(fake: FakeApi, run_agent: RunAgent) -> None:
    """The error says what to do."""
    async with run_agent("1") as first:
        await first.hears("agent tester")
        async with run_agent("1") as second:
            assert await second.ends() == 1
            assert "start this one with STATE_DIR=" in second.said


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"FLUSH_S": "soon"}, "FLUSH_S='soon' cannot be used"),
        ({"API_URL": "localhost:3000"}, "write it as http://host:port"),
        ({"LABELS": "a b"}, "LABELS='a b' cannot be used"),
    ],
)
async def test_a_bad_setting_is_named(
    fake: FakeApi, run_agent: RunAgent, environ: dict[str, str], said: str
) -> None:
    """Nobody should have to read a traceback for a typo."""
    async with run_agent("1", **environ) as agent:
        assert await agent.ends() == 1
    assert said in agent.said
    assert "Traceback" not in agent.said


async def test_too_few_files_for_the_slots_are_told_at_the_start(tmp_path: Path) -> None:
    """One sentence, before anything is claimed."""
    agent = await asyncio.create_subprocess_exec(
        "sh",
        "-c",
        'ulimit -n 100 && exec "$0" -m agent 500',
        sys.executable,
        env={"PATH": os.environ["PATH"], "STATE_DIR": str(tmp_path / "state")},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(agent.communicate(), 20)
    assert agent.returncode == 1
    assert said.decode().startswith("agent: 500 slots need 1564 open files and this system allows")
    assert said.count(b"\n") == 1


async def test_a_token_that_is_refused_ends_it(fake: FakeApi, run_agent: RunAgent) -> None:
    """Trying for ever would hide the mistake."""
    fake.standing["/sessions"] = refuse(401)
    async with run_agent("1") as agent:
        assert await agent.ends() == 1
    assert "Set TOKEN" in agent.said


async def test_many_tasks_on_many_slots(fake: FakeApi, run_agent: RunAgent) -> None:
    """On uvloop: descriptors are closed and their numbers used again hundreds of times."""
    tasks = [fake.add(f"echo {number}; echo {-number} >&2") for number in range(400)]
    async with run_agent("16") as agent:
        async with asyncio.timeout(60):
            for task in tasks:
                await fake.result(task)
        agent.process.terminate()
        assert await agent.ends() == 0
    assert [fake.log(task) for task in tasks] == [b"%d\n" % number for number in range(400)]
