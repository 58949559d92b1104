"""The main process of the server: no worker stays dead, no signal is lost."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from api.supervising import Bell, Server


def _work(*_: object) -> None:
    signal.pause()


@pytest.fixture
def server() -> Iterator[Any]:
    """Two real worker processes, without a main loop."""
    one: Any = Server("nothing:here", workers=2, workers_kill_timeout=5)
    one._ipc = {0: (None, None), 1: (None, None)}
    one._ssp = one._shd = one._sso = None
    one._spawn_workers(_work, None)
    yield one
    one._stop_workers()


def _kill(server: Any, number: int) -> int:
    worker = server.wrks[number]
    os.kill(worker.inner.pid, signal.SIGKILL)
    while worker.inner.is_alive():  # `join` may return before the watching thread noted the end
        time.sleep(0.001)
    pid: int = worker.inner.pid
    return pid


def test_a_worker_whose_death_was_forgotten_comes_back_too(server: Any) -> None:
    """Both die at once: the main loop clears the note of the second with that of the first."""
    dead = {_kill(server, 0), _kill(server, 1)}
    server.interrupt_children.clear()
    server._respawn_workers([0], _work, None)
    assert all(worker.inner.is_alive() for worker in server.wrks)
    assert dead.isdisjoint(worker.inner.pid for worker in server.wrks)
    assert [worker.idx for worker in server.wrks] == [0, 1]


def test_a_note_of_a_worker_that_lives_again_is_not_left(server: Any) -> None:
    """It would cost the new one its life."""
    _kill(server, 0)
    _kill(server, 1)
    deadline = time.monotonic() + 5
    while len(server.interrupt_children) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    server.interrupt_children.remove(0)
    server._respawn_workers([0], _work, None)
    assert server.interrupt_children == []


def test_a_worker_that_is_gone_can_be_told_to_end(server: Any) -> None:
    """Who waits for it took its exit status, and had no time to note that."""
    worker = server.wrks[0]
    pid = _kill(server, 0)
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    worker.inner._popen.returncode = None  # as between the two
    worker.terminate()


_SENDER = """
import os, random, signal, time
while True:
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        os.kill(os.getppid(), number)
        until = time.perf_counter() + random.uniform(0, 30e-6)
        while time.perf_counter() < until:
            pass
    time.sleep(20e-6)
"""


def test_a_signal_handler_may_ring_whatever_the_main_loop_does() -> None:
    """With `threading.Event` this hangs: the handler waits for a lock that its own thread holds."""
    bell = Bell()
    handled = 0

    def handler(*_: object) -> None:
        nonlocal handled
        handled += 1
        bell.set()

    before = {each: signal.signal(each, handler) for each in (signal.SIGUSR1, signal.SIGUSR2)}
    sender = subprocess.Popen([sys.executable, "-c", _SENDER])
    try:
        while handled < 20_000:
            bell.wait()
            bell.clear()
    finally:
        sender.kill()
        sender.wait()
        for number, was in before.items():
            signal.signal(number, was)
