"""The machines of a campaign: API servers and agents, with what can be done to them."""

import asyncio
import os
import urllib.request
from contextlib import suppress
from pathlib import Path

import psutil

from loadtest.chaos import programs
from loadtest.chaos.disks import Disk
from loadtest.chaos.limits import (
    CRASH_LIMIT,
    KILL_GRACE_S,
    LEASE_S,
    PIPE_WAIT_S,
    REAPER_S,
    SLOTS,
    WORKERS,
)
from loadtest.chaos.programs import Ended, Program
from loadtest.chaos.proxy import Proxy
from loadtest.chaos.scripts import LABELS

_SKEW = Path(__file__).parent / "skew"
_KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "USER")
_BUFFER_BYTES = 4 * 1024 * 1024
_CHUNK_BYTES = 128 * 1024
_SPOOL_BYTES = (16 * 1024 * 1024, 4 * 1024 * 1024, 64 * 1024 * 1024)
"""Of each agent: the last one's disk is full before its spool is."""


class Server:
    """One API server with its workers, and its link to the database."""

    def __init__(
        self, name: str, port: int, link: Proxy, mark: str, folder: Path, ended: Ended
    ) -> None:
        """`ended` hears of each end of its program."""
        self.name = name
        self.port = port
        self.link = link
        environ = {
            "DATABASE_URL": f"postgresql://postgres@127.0.0.1:{link.port}/postgres?sslmode=disable",
            "PORT": str(port),
            "DATA_DIR": str(folder / name),
            "WORKERS": str(WORKERS),
            "LEASE_S": str(LEASE_S),
            "REAPER_S": str(REAPER_S),
            "CRASH_LIMIT": str(CRASH_LIMIT),
        }
        self.program = Program(name, ["api"], _environ(mark, environ), folder, ended)

    def workers(self) -> list[psutil.Process]:
        """Its worker processes."""
        return [each for each in self.program.own()[1:] if _is_worker(each)]

    async def ready(self) -> None:
        """Wait until it answers."""
        while not await asyncio.to_thread(self._answers):
            await asyncio.sleep(0.05)

    def _answers(self) -> bool:
        url = f"http://127.0.0.1:{self.port}/health/ready"
        with suppress(OSError), urllib.request.urlopen(url, timeout=2):
            return True
        return False


class Agent:
    """One agent, its link to the servers, its disk and its wall clock."""

    def __init__(
        self, number: int, link: Proxy, disk: Disk, mark: str, folder: Path, ended: Ended
    ) -> None:
        """`ended` hears of each end of its program."""
        self.name = link.name
        self.link = link
        self.disk = disk
        self._clock = folder / f"{self.name}.clock"
        self._clock.write_bytes(bytes(8))
        environ = {
            "API_URL": f"http://127.0.0.1:{link.port}",
            "AGENT_NAME": self.name,
            "LABELS": LABELS[number % len(LABELS)],
            "STATE_DIR": str(disk.path),
            "SPOOL_BYTES": str(_SPOOL_BYTES[number]),
            "BUFFER_BYTES": str(_BUFFER_BYTES),
            "CHUNK_BYTES": str(_CHUNK_BYTES),
            "FLUSH_S": "0.5",
            "KILL_GRACE_S": str(KILL_GRACE_S),
            "PIPE_WAIT_S": str(PIPE_WAIT_S),
            "PYTHONPATH": str(_SKEW),
            "CHAOS_CLOCK": str(self._clock),
        }
        words = ["agent", str(SLOTS[number])]
        self.program = Program(self.name, words, _environ(mark, environ), folder, ended)

    def set_clock(self, wrong_by_s: int) -> None:
        """Let its wall clock be wrong."""
        with self._clock.open("r+b") as file:  # in place: it is mapped
            file.write((wrong_by_s * 1_000_000_000).to_bytes(8, "little", signed=True))


def _environ(mark: str, more: dict[str, str]) -> dict[str, str]:
    """Nothing else of ours: DATABASE_URL, TOKEN or LABELS are not for this."""
    kept = {name: value for name, value in os.environ.items() if name in _KEPT}
    return kept | {programs.MARK: mark} | more


def _is_worker(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return "spawn_main" in " ".join(process.cmdline())
    return False
