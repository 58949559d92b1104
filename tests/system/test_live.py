"""Live logs from end to end: a task writes, an agent reads its pipes, somebody sees it."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue
from typing import IO, NamedTuple

import aiohttp
import pytest

from benchmarks import server as servers
from benchmarks.server import BenchServer
from tests.api.events import Viewer
from tests.api.server import Api
from tests.system.test_whole import _ROOT, _agent, _dw, _environ


@pytest.fixture(scope="module")
def server() -> Iterator[BenchServer]:
    """Start a server, and an agent that sends nothing for an hour unless it is asked to."""
    with servers.start() as running, _agent(running, 4, FLUSH_S="3600"):
        yield running


class _Line(NamedTuple):
    """What a process wrote."""

    stream: str
    text: str


class _Watching:
    """`dw logs -f` as a process, and the lines that it wrote."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._lines: Queue[_Line] = Queue()
        assert process.stdout is not None
        assert process.stderr is not None
        self._readers = [
            threading.Thread(target=self._read, args=("stdout", process.stdout)),
            threading.Thread(target=self._read, args=("stderr", process.stderr)),
        ]
        for reader in self._readers:
            reader.start()

    def end(self) -> None:
        """Read what is left of a process that was ended."""
        for reader in self._readers:
            reader.join()

    def _read(self, stream: str, pipe: IO[bytes]) -> None:
        for line in pipe:
            self._lines.put(_Line(stream, line.decode()))

    def next(self) -> _Line:
        """Wait for one more line."""
        try:
            return self._lines.get(timeout=30)
        except Empty:
            raise AssertionError("no line came within 30 s") from None


@contextmanager
def _watch(server: BenchServer, *words: str) -> Iterator[_Watching]:
    with subprocess.Popen(
        [sys.executable, "-m", "client.cli", "logs", "-f", *words], cwd=_ROOT,
        env=_environ(server), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        watching = _Watching(process)
        try:
            yield watching
        finally:
            process.kill()
            watching.end()


def _submit(server: BenchServer, command: str, *words: str) -> str:
    done = _dw(server, "submit", *words, "--", command)
    assert done.returncode == 0, done
    return done.stdout.split()[1]


def test_lines_are_seen_while_the_task_runs(server: BenchServer, tmp_path: Path) -> None:
    """The agent would keep them for an hour: it is asked to send, because somebody watches."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    loop = 'while read line; do echo "out $line"; echo "err $line" >&2; done'
    number = _submit(server, f"{loop} < {gate}; exit 3")
    with _watch(server, number) as watching, gate.open("w") as writer:
        for line in range(5):
            writer.write(f"{line}\n")
            writer.flush()
            seen = {watching.next(), watching.next()}
            assert seen == {_Line("stdout", f"out {line}\n"), _Line("stderr", f"err {line}\n")}
        writer.close()
        assert watching.process.wait(30) == 0
    assert _dw(server, "show", number).stdout.count("complete") == 2


def test_a_group_is_seen_while_it_runs(server: BenchServer, tmp_path: Path) -> None:
    """Each line behind its task's number."""
    gates = [tmp_path / name for name in ("one", "two")]
    numbers = []
    for gate in gates:
        os.mkfifo(gate)
        loop = 'while read line; do echo "$line"; done'
        numbers.append(_submit(server, f"{loop} < {gate}", "--group", "g/live"))
    with (
        _watch(server, "--group", "g/live") as watching,
        gates[0].open("w") as one,
        gates[1].open("w") as two,
    ):
        for writer, number in ((one, numbers[0]), (two, numbers[1]), (one, numbers[0])):
            writer.write("hello\n")
            writer.flush()
            assert watching.next() == _Line("stdout", f"{number} | hello\n")
        one.close()
        two.close()
        assert watching.process.wait(30) == 0


def test_both_streams_are_merged_as_they_were_written(server: BenchServer) -> None:
    """With pauses between the writes, so that no reader could take them for simultaneous."""
    loop = "for i in 1 2 3 4 5 6 7 8; do echo out $i; sleep 0.05; echo err $i >&2; sleep 0.05; done"
    number = _submit(server, f"{loop}; printf 'the end'", "--wait")
    expected = "".join(f"out {line}\nerr {line}\n" for line in range(1, 9)) + "the end"
    assert _dw(server, "logs", number).stdout == expected
    elapsed = _dw(server, "logs", number, "--timestamps", "elapsed").stdout.splitlines()
    times = [float(line.split()[0]) for line in elapsed]
    assert times == sorted(times)
    assert times[-2] - times[0] >= 0.7
    assert _dw(server, "logs", number, "--grep", "err 5", "-n").stdout == "10:err 5\n"
    explained = _dw(server, "explain", number).stdout
    assert explained == f"task {number}: It has ended: succeeded.\n"


async def test_lines_of_both_streams_are_seen_in_their_order(server: BenchServer) -> None:
    """Whatever is large or small, and however fast it comes: as the whole log has them."""
    # No line is over 1 MiB: its place in the whole log would be another.
    burst = "head -c {} /dev/zero | tr '\\0' x; echo; echo \"err $i\" >&2"
    loop = "for i in $(seq 40); do {}; done; {}; echo the end >&2"
    slow = loop.format(f"{burst.format(30_000)}; sleep 0.02", burst.format(1_000_000))
    quick = loop.format(burst.format(200_000), burst.format(10))
    numbers = [int(_submit(server, command)) for command in (slow, quick, slow, quick)]
    async with aiohttp.ClientSession(read_bufsize=2**20) as http:
        api = Api(http, f"http://127.0.0.1:{server.port}")
        viewers = {number: Viewer(api, f"/tasks/{number}/logs/live") for number in numbers}
        async with asyncio.timeout(60):
            await asyncio.gather(*(viewer.watch() for viewer in viewers.values()))
        for number, viewer in viewers.items():
            seen = [b"%d:%b\n" % (line, text) for line, _, text in viewer.lines()]
            whole = (await api.call("GET", f"/tasks/{number}/logs?numbers=true")).body
            assert seen == whole.splitlines(keepends=True)
