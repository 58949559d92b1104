"""A fake API for each test; agents in the test's own process, and in processes of their own."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent import linux
from agent.settings import Settings
from agent.worker import Worker
from tests.agent.fake_api import FakeApi, serve

StartAgent = Callable[..., AbstractAsyncContextManager[Worker]]


@pytest.fixture
async def fake() -> AsyncIterator[FakeApi]:
    """Start an API that has no tasks yet, and demand in the end that no agent misbehaved."""
    async with serve() as one:
        yield one
    assert one.wrongs == []


@pytest.fixture(params=["linux", "portable"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test with Linux's own calls, and without."""
    monkeypatch.setattr(linux, "PORTABLE", request.param == "portable")
    return str(request.param)


@pytest.fixture
def start_agent(fake: FakeApi, tmp_path: Path) -> StartAgent:
    """Make agents that run in this process; arguments are slots and settings."""

    @asynccontextmanager
    async def start(slots: int = 2, **settings: Any) -> AsyncIterator[Worker]:
        work = tmp_path / "work"
        work.mkdir(exist_ok=True)
        chosen: dict[str, Any] = {"api_url": fake.url, "agent_name": "tester"}
        chosen |= {"kill_grace_s": 1, "pipe_wait_s": 1}
        inherited = {os.fsencode(name): os.fsencode(value) for name, value in os.environ.items()}
        worker = Worker(Settings(**(chosen | settings)), slots, work, inherited)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(worker.run())
            try:
                yield worker
            finally:
                if not running.done():
                    worker.drain()
                    worker.drain()
        assert [*work.glob("*/*")] == [], "tasks' files stay behind"

    return start


async def eventually(true: Callable[[], bool], what: str) -> None:
    """Await a condition that no request tells of."""
    try:
        async with asyncio.timeout(20):
            while not true():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"never came true: {what}") from None


class AgentProcess:
    """`python -m agent` in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said = ""

    async def hears(self, text: str) -> None:
        """Await that it prints a text."""
        assert self.process.stdout is not None
        async with asyncio.timeout(20):
            while text not in self.said:
                line = await self.process.stdout.readline()
                assert line, f"ended without saying {text!r}:\n{self.said}"
                self.said += line.decode()

    async def ends(self) -> int:
        """Await its end; the exit status."""
        async with asyncio.timeout(20):
            rest, _ = await self.process.communicate()
        self.said += rest.decode()
        assert self.process.returncode is not None
        return self.process.returncode


@pytest.fixture
def run_agent(
    fake: FakeApi, tmp_path: Path
) -> Callable[..., AbstractAsyncContextManager[AgentProcess]]:
    """Make agents as `python -m agent`; arguments are its own and the environment."""

    @asynccontextmanager
    async def start(*args: str, **environ: str) -> AsyncIterator[AgentProcess]:
        env = {
            "PATH": os.environ["PATH"],
            "API_URL": fake.url,
            "AGENT_NAME": "tester",
            "STATE_DIR": str(tmp_path / "state"),
            "KILL_GRACE_S": "1",
            "PYTHONWARNINGS": "error",
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "agent",
            *args,
            env=env | environ,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        agent = AgentProcess(process)
        try:
            yield agent
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGKILL)
                await process.communicate()
            print(agent.said)

    return start
