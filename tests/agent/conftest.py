"""A fake API for each test; agents in the test's own process, and in processes of their own."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from agent import linux
from agent.isolation import Launcher
from agent.link import Link
from agent.settings import Settings
from agent.state import State
from agent.task_limits import task_limits
from agent.trees import Tree, Trees
from agent.worker import Worker
from tests.agent.fake_api import FakeApi, serve

_PORTABLE = """
import sys
from agent import __main__, linux
linux.PORTABLE = True
sys.exit(__main__.main())
"""

StartAgent = Callable[..., AbstractAsyncContextManager[Worker]]
AddTree = Callable[[int], Tree]


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
def add_tree() -> Iterator[AddTree]:
    """Give processes that are started without a worker a tree of one attempt."""
    with Link(1) as link:
        trees = Trees("0123", "tester", link)
        mark = trees.mark(1, 1)
        yield lambda pid: trees.add(pid, mark, exclusive=False)


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
        state = State(tmp_path, work, tmp_path / "kept", "0123")
        config = Settings(**(chosen | settings))
        limits = task_limits(config, state.id, slots)
        launcher = Launcher(config, inherited, tmp_path, None, limits)
        with Link(slots) as link:
            worker = Worker(config, slots, state, launcher, link)
            async with asyncio.TaskGroup() as group:
                running = group.create_task(worker.run())
                try:
                    yield worker
                finally:
                    if not running.done():
                        worker.draining.ask()
                        worker.draining.ask()
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


async def told_pid(path: Path) -> int:
    """Await that a task writes a process's id into a file."""
    await eventually(
        lambda: path.exists() and path.read_text().endswith("\n"), f"{path} is written"
    )
    return int(path.read_text())


def leaving(pid: Path, *, wiped: bool = False) -> str:
    """Give a command that leaves a process of nobody's behind, in a session of its own."""
    program = f"{'env -i ' if wiped else ''}setsid sh -c 'echo $$ > {pid}; exec sleep 600'"
    up = f"until [ -s {pid} ]; do sleep 0.01; done"  # else it dies with the group it is to leave
    return f"({program} </dev/null >/dev/null 2>&1 &); {up}"


def runs(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and is not reaped does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class AgentProcess:
    """`python -m agent` in a process of its own, which leads a process group."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said = ""

    def worker(self) -> psutil.Process:
        """The process that the guardian has started."""
        (worker,) = psutil.Process(self.process.pid).children()
        return worker

    async def hears(self, text: str) -> None:
        """Await that it prints a text."""
        assert self.process.stdout is not None
        async with asyncio.timeout(20):
            while text not in self.said:
                line = await self.process.stdout.readline()
                assert line, f"ended without saying {text!r}:\n{self.said}"
                self.said += line.decode()

    async def stops(self) -> int:
        """Tell it to end what runs, and await its end; the exit status."""
        self.process.terminate()
        await self.hears("press Ctrl-C again")  # two signals at once may be one
        self.process.terminate()
        return await self.ends()

    async def ends(self) -> int:
        """Await its end; the exit status."""
        async with asyncio.timeout(20):
            rest, _ = await self.process.communicate()
        self.said += rest.decode()
        assert "Warning" not in self.said, self.said
        assert self.process.returncode is not None
        return self.process.returncode


@pytest.fixture
def run_agent(
    fake: FakeApi, tmp_path: Path
) -> Callable[..., AbstractAsyncContextManager[AgentProcess]]:
    """Make agents as `python -m agent`; arguments are its own and the environment.

    A `portable` one does without what only Linux has.
    """

    @asynccontextmanager
    async def start(
        *args: str, portable: bool = False, **environ: str
    ) -> AsyncIterator[AgentProcess]:
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
            *(("-c", _PORTABLE) if portable else ("-m", "agent")),
            *args,
            env=env | environ,
            start_new_session=True,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        agent = AgentProcess(process)
        try:
            yield agent
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGKILL)
                await process.communicate()  # its worker hears of that, and ends, too
            print(agent.said)

    return start
