"""The product as its user starts it: server, agent and dw as processes, over the real wire."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks import server as servers
from benchmarks.server import BenchServer

_ROOT = Path(__file__).parents[2]
_TASKS = 300


def _environ(server: BenchServer, **more: str) -> dict[str, str]:
    return os.environ | {"API_URL": f"http://127.0.0.1:{server.port}", "TOKEN": "", **more}


def _dw(server: BenchServer, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "client.cli", *words],
        cwd=_ROOT, env=_environ(server), input=stdin, capture_output=True, text=True, timeout=100,
        check=False,
    )  # fmt: skip


@contextmanager
def _agent(server: BenchServer, slots: int, **environ: str) -> Iterator[subprocess.Popen[str]]:
    with tempfile.TemporaryDirectory(prefix="dw-agent-") as folder:
        process = subprocess.Popen(
            [sys.executable, "-m", "agent", str(slots)], cwd=_ROOT,
            env=_environ(server, STATE_DIR=folder, **environ), stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)


def test_many_tasks_go_through_and_nothing_is_left_running() -> None:
    """The README's first screen: each task succeeds, each log is right, all processes end."""
    with servers.start() as server:
        main = psutil.Process(server.pid)
        with _agent(server, 16) as agent:
            lines = "".join(f"echo {number}; echo no {number} >&2\n" for number in range(_TASKS))
            done = _dw(
                server, "submit", "--wait", "--group", "g/1", "--json", "--file", "-", stdin=lines
            )
            assert done.returncode == 0, done
            listed = _dw(server, "ls", "--group", "g/1", "-n", str(_TASKS), "--json")
            ids = sorted(json.loads(line)["id"] for line in listed.stdout.splitlines())
            assert len(ids) == _TASKS
            for number in (0, 1, _TASKS // 2, _TASKS - 1):
                for stream, text in (("stdout", f"{number}\n"), ("stderr", f"no {number}\n")):
                    log = _dw(server, "logs", str(ids[number]), "--stream", stream)
                    assert (log.returncode, log.stdout) == (0, text)
            family = [*main.children(recursive=True), *psutil.Process(agent.pid).children()]
        assert agent.returncode == 0
    _, alive = psutil.wait_procs([main, *family], timeout=30)
    assert not alive


def test_an_agent_is_drained_from_afar(tmp_path: Path) -> None:
    """It hands back what has not started, finishes and uploads what runs, and ends with 0."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)

    def listed(status: str) -> list[dict[str, Any]]:
        lines = _dw(server, "ls", "--group", "drained", "--status", status, "--json").stdout
        return [json.loads(line) for line in lines.splitlines()]

    with servers.start() as server, _agent(server, 1, AGENT_NAME="lab/3") as agent:
        # Tasks are claimed ahead where the agent knows them to be short.
        _dw(server, "submit", "--wait", "--file", "-", stdin="true\n" * 8)
        long = f"echo begun; read line < {gate}; echo $line; head -c 3000000 /dev/zero"
        lines = "".join(f"{command}\n" for command in [long, *["echo later"] * 3])
        _dw(server, "submit", "--group", "drained", "--file", "-", stdin=lines)
        _until(lambda: len(listed("in_progress")), 4)
        drain = ["agents", "drain", "lab/3", "--wait", "--at-most", "60s"]
        with subprocess.Popen(
            [sys.executable, "-m", "client.cli", *drain], cwd=_ROOT, env=_environ(server)
        ) as draining:
            _until(lambda: [task["attempt"] for task in listed("pending")], [1, 1, 1])
            (runs,) = listed("in_progress")
            assert (draining.poll(), agent.poll()) == (None, None)
            gate.write_text("done\n")
            assert draining.wait(60) == 0
        assert agent.wait(60) == 0
        shown = json.loads(_dw(server, "show", str(runs["id"]), "--json").stdout)
        assert (shown["status"], shown["logs"]["stdout"]["state"]) == ("succeeded", "complete")
        assert shown["logs"]["stdout"]["bytes"] == len("begun\ndone\n") + 3_000_000
        assert len(listed("pending")) == 3
        (gone,) = map(json.loads, _dw(server, "agents", "--all", "--json").stdout.splitlines())
        assert (gone["agent"], gone["alive"], gone["drain"]) == ("lab/3", False, True)


def _until(look: Callable[[], object], wanted: object) -> None:
    """Look until it is as wanted."""
    deadline = time.monotonic() + 20
    while (seen := look()) != wanted:
        assert time.monotonic() < deadline, f"never {wanted!r}: {seen!r}"


@pytest.mark.timeout(180)
def test_the_load_test_runs_and_finds_nothing_wrong() -> None:
    """Its verdict is its exit code: it counts claims given twice and logs that read back wrong."""
    with servers.start() as server:
        words = ["-f", "loadtest/agents.py", "--headless", "-u", "6", "-r", "6", "-t", "5s"]
        run = subprocess.run(
            [sys.executable, "-m", "locust", *words],
            cwd=_ROOT, env=_environ(server), capture_output=True, text=True, timeout=120,
            check=False,
        )  # fmt: skip
        assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
        assert "all hold" in run.stdout
