"""Peers' processes, and the words that tell them what to do."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_ROOT = Path(__file__).parents[2]
_STOP_S = 30.0


class PeerProcess:
    """Runs `main` of a module of this package, which `serve`s."""

    def __init__(self, module: str, *arguments: str) -> None:
        # Not by -m: procrastinate wants to be used in a module that has its own name.
        main = f"from benchmarks.peers.{module} import main; main()"
        self._process = subprocess.Popen(
            [sys.executable, "-c", main, *arguments],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid

    def tell(self, word: str, *arguments: object) -> None:
        """Let it begin something. No argument has a space in it."""
        stdin = _pipe(self._process.stdin)
        stdin.write(" ".join((word, *map(str, arguments))) + "\n")
        stdin.flush()

    def answer(self) -> int:
        """Wait until it is done."""
        line = _pipe(self._process.stdout).readline()
        assert line, "a peer's process has ended: its message is in the captured output"
        return int(line)

    def ask(self, word: str, *arguments: object) -> int:
        """Let it do something, and wait for that."""
        self.tell(word, *arguments)
        return self.answer()

    def stop(self) -> None:
        """Let it end, which it does with its input."""
        _pipe(self._process.stdin).close()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        _pipe(self._process.stdout).close()


def _pipe(one: IO[str] | None) -> IO[str]:
    assert one is not None
    return one


@contextmanager
def started(module: str, *arguments: str, count: int = 1) -> Iterator[list[PeerProcess]]:
    """Start some processes that run the same module."""
    running: list[PeerProcess] = []
    try:
        for _ in range(count):
            running.append(PeerProcess(module, *arguments))  # noqa: PERF401  # stopped if one fails
        yield running
    finally:
        for each in running:
            each.stop()


def all_do(workers: Sequence[PeerProcess], word: str, *arguments: object) -> int:
    """Let all do the same at once; the sum of their answers."""
    for each in workers:
        each.tell(word, *arguments)
    return sum(each.answer() for each in workers)
