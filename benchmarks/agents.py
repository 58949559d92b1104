"""The agent under test: its own process and state folder, with default settings."""

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from msgspec import Struct

from agent.settings import Settings
from benchmarks.server import BenchServer

_LISTED_S = 30.0
_STOP_S = 30.0
_ROOT = Path(__file__).parent.parent
_SETTINGS = {name.upper() for name in Settings.__struct_fields__}


class BenchAgent(Struct, frozen=True):
    """A running agent."""

    name: str
    pid: int
    """Of the guardian, which people start."""
    worker: int


@contextmanager
def start(server: BenchServer, slots: int, name: str = "benchmark") -> Iterator[BenchAgent]:
    """Start an agent and wait until the API lists it; in the end let it drain."""
    with tempfile.TemporaryDirectory(prefix="dw-agent-", ignore_cleanup_errors=True) as folder:
        environ = {key: value for key, value in os.environ.items() if key not in _SETTINGS}
        environ |= {
            "API_URL": f"http://127.0.0.1:{server.port}",
            "AGENT_NAME": name,
            "STATE_DIR": folder,
            "LOG_LEVEL": "warning",
        }
        words = [sys.executable, "-m", "agent", str(slots)]
        process = subprocess.Popen(words, cwd=_ROOT, env=environ)
        try:
            _wait_until_listed(process, server, name)
            (worker,) = psutil.Process(process.pid).children()
            yield BenchAgent(name, process.pid, worker.pid)
        finally:
            _stop(process)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    for _ in range(2):  # told twice, it ends what runs
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_S)
            return
    process.kill()
    process.wait()


def _wait_until_listed(process: "subprocess.Popen[bytes]", server: BenchServer, name: str) -> None:
    deadline = time.monotonic() + _LISTED_S
    while process.poll() is None:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/agents", timeout=5) as answer:
            if any(each["agent"] == name for each in json.load(answer)):
                return
        assert time.monotonic() < deadline, f"no agent {name} after {_LISTED_S:.0f} s"
        time.sleep(0.05)
    raise RuntimeError(f"the agent ended with exit code {process.returncode}")
