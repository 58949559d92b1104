"""What an agent does not take or run: other commands than ALLOW's, and anything on a full disk."""

import asyncio
import shutil
from pathlib import Path

import pytest

from agent.disk import Room
from tests.agent.conftest import StartAgent, eventually
from tests.agent.fake_api import FakeApi
from tests.agent.test_ending import RunAgent


async def test_commands_that_are_not_allowed_are_refused(
    fake: FakeApi, run_agent: RunAgent, tmp_path: Path
) -> None:
    """It blames the agent, not the task; the reason names the setting, and nothing has run."""
    fine = fake.add("echo fine")
    more = fake.add(f"echo x; touch {tmp_path}/made")
    variable = fake.add("echo x", env={"BASH_ENV": f"$(touch {tmp_path}/made)"})
    hidden = fake.add("echo x", secrets={"BASH_ENV": f"$(touch {tmp_path}/made)"})
    named = fake.add("echo x", env={"CI_JOB": "1"})
    async with run_agent("4", ALLOW="echo *,true", ALLOW_ENV="CI_*") as agent:
        for task in (fine, named):
            assert (await fake.result(task)).exit_code == 0
        refused, by_variable = await fake.result(more), await fake.result(variable)
        assert (await fake.result(hidden)).message == by_variable.message
        agent.process.terminate()
        assert await agent.ends() == 0
    assert refused.reason == by_variable.reason == "spawn_error"
    assert refused.message is not None
    assert refused.message.startswith("agent tester refuses this command: ALLOW='echo *,true'")
    assert by_variable.message == (
        "agent tester refuses the variable 'BASH_ENV': ALLOW_ENV does not name it"
    )
    assert not (tmp_path / "made").exists()


async def test_a_slot_that_refused_one_rests_the_same_each_time(
    fake: FakeApi, start_agent: StartAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others have the time to take it; what is allowed does not wait for half a minute."""
    monkeypatch.setattr("agent.runner.REFUSED_S", 0.2)
    tasks = [fake.add("false") for _ in range(3)]
    async with start_agent(slots=1, allow=("true",)):
        began_s = asyncio.get_running_loop().time()
        for task in tasks:
            await fake.result(task)
        await fake.result(fake.add("true"))
        took_s = asyncio.get_running_loop().time() - began_s
    assert 0.6 <= took_s < 3


async def test_a_pattern_that_is_none_is_named_at_the_start(
    fake: FakeApi, run_agent: RunAgent
) -> None:
    """Not by a traceback at the first task."""
    async with run_agent("1", ALLOW="run [z-a]") as agent:
        assert await agent.ends() == 1
    assert "agent: ALLOW='run [z-a]' is not a pattern" in agent.said


@pytest.mark.parametrize("name", ["READABLE", "WRITABLE"])
async def test_the_state_folder_cannot_be_shown(
    fake: FakeApi, run_agent: RunAgent, tmp_path: Path, name: str
) -> None:
    """In it is the spool, with other tasks' output; also by another name."""
    (tmp_path / "link").symlink_to(tmp_path)
    async with run_agent("1", **{name: str(tmp_path / "link")}) as agent:
        assert await agent.ends() == 1
    assert "would show tasks STATE_DIR" in agent.said


async def test_labels_do_not_promise_isolation(fake: FakeApi, run_agent: RunAgent) -> None:
    """Tasks would come that the agent cannot keep in."""
    async with run_agent("1", LABELS="a,isolation=docker") as agent:
        assert await agent.ends() == 1
    assert "agent: LABELS has 'isolation=docker'" in agent.said


async def test_on_a_full_disk_nothing_is_taken(
    fake: FakeApi,
    start_agent: StartAgent,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The parked claim is given up, one line says why, and it goes on by itself."""
    monkeypatch.setattr("agent.worker._DISK_S", 0.05)
    disk = Room(1000, 1000)
    monkeypatch.setattr("agent.worker.room", lambda folder: disk)
    async with start_agent(slots=1, min_disk_free="10%") as worker:
        await fake.result(fake.add("true"))
        disk = Room(99, 1000)
        await eventually(lambda: worker._disk.low, "it has looked")
        await _beat(fake)
        claims = _claims(fake)
        task = fake.add("true")
        for _ in range(3):
            await _beat(fake)
        # The claim that was given up may have been parked there for a moment longer.
        assert all(result.reason == "returned" for result in fake.results.get((task, 1), ()))
        assert _claims(fake) == claims
        disk = Room(111, 1000)
        await fake.until(lambda: _ran(fake, task), "it runs")
    said = [line for line in caplog.messages if "MIN_DISK_FREE" in line or "taken again" in line]
    assert len(said) == 2
    assert "MIN_DISK_FREE=10% is 100 bytes" in said[0]


def _claims(fake: FakeApi) -> int:
    return sum(kind == "claim" for kind, _ in fake.requests)


def _ran(fake: FakeApi, task: int) -> bool:
    """Whether an attempt of it came to its end."""
    ends = [end for (number, _), ends in fake.results.items() if number == task for end in ends]
    return any(end.exit_code == 0 for end in ends)


async def _beat(fake: FakeApi) -> None:
    """Await that the agent has heard something, and asks again."""
    beats = len(fake.requests)
    fake.flush_ms += 1
    fake.poke()
    await fake.until(lambda: len(fake.requests) > beats, "a beat")


async def test_what_is_claimed_already_goes_back_from_a_full_disk(
    fake: FakeApi, start_agent: StartAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counting against nothing: another machine has room."""
    monkeypatch.setattr("agent.worker.room", lambda folder: Room(0, 1000))
    async with start_agent(slots=1, min_disk_free="1K") as worker:
        await eventually(lambda: worker._disk.low, "it has looked")
        task = fake.add("true")
        name = next(iter(fake.live))
        owned = fake.pending.popleft()
        fake.owned[task, 1] = (owned, name)  # as by a claim whose reply was lost
        worker._beats.compare_soon()
        assert (await fake.result(task)).reason == "returned"


async def test_a_real_disk_that_is_full(fake: FakeApi, run_agent: RunAgent, tmp_path: Path) -> None:
    """The floor is more than there is: it says so in figures, and takes nothing."""
    floor = str(shutil.disk_usage(tmp_path).total)
    task = fake.add("true")
    async with run_agent("1", MIN_DISK_FREE=floor) as agent:
        await agent.hears("no tasks are taken until")
        agent.process.terminate()
        assert await agent.ends() == 0
    assert not fake.given[task, 1]
