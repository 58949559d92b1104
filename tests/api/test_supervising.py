"""The main process of the server: no worker stays dead, no signal is lost."""

import os
import random
import signal
import subprocess
import sys
import threading
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
    deadline = time.monotonic() + 10
    while worker.inner.is_alive():  # `join` may return before the watching thread noted the end
        assert time.monotonic() < deadline
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


def test_a_late_note_of_a_worker_that_was_replaced_kills_nobody(server: Any) -> None:
    """The thread that waits for a worker tells of its end when somebody else may have seen it."""
    before = [worker.inner.pid for worker in server.wrks]
    server._respawn_workers([0], _work, None)
    assert [worker.inner.pid for worker in server.wrks] == before


def test_a_worker_that_is_gone_can_be_told_to_end(server: Any) -> None:
    """Who waits for it took its exit status, and had no time to note that."""
    worker = server.wrks[0]
    pid = _kill(server, 0)
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    worker.inner._popen.returncode = None  # as between the two
    worker.terminate()


class _Rung(Bell):
    """One into which a signal comes at the worst moment."""

    def __init__(self, server: Any) -> None:
        super().__init__()
        self.server = server

    def clear(self) -> None:
        self.server.signal_handler_interrupt()
        super().clear()


def test_a_signal_between_a_look_and_the_next_wait_is_heard(server: Any) -> None:
    """Granian looks for it, then clears what it rang: it would wait for the next one."""
    server.respawn_failed_workers = True
    server.main_loop_interrupt = _Rung(server)
    _kill(server, 0)
    server.main_loop_interrupt.set()
    loop = threading.Thread(target=server._serve_loop, args=(_work, None), daemon=True)
    loop.start()
    loop.join(10)
    heard = not loop.is_alive()
    server.main_loop_interrupt.set()
    assert heard


_RINGS = """
import signal
from api.supervising import Bell

signal.alarm(60)
bell = Bell()
handled = 0

def handler(*_):
    global handled
    handled += 1
    bell.set()

signal.signal(signal.SIGUSR1, handler)
signal.signal(signal.SIGUSR2, handler)
print("ready", flush=True)
while handled < 20_000:
    bell.wait()
    bell.clear()
print("over", flush=True)
"""


def _overcome(program: str) -> bool:
    """Whether it ends, though two signals come at any distance again and again."""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as one:
        assert one.stdout is not None
        assert one.stdout.readline() == b"ready\n"
        deadline = time.monotonic() + 60
        while one.poll() is None and time.monotonic() < deadline:
            for number in (signal.SIGUSR1, signal.SIGUSR2):
                one.send_signal(number)
                until = time.perf_counter() + random.uniform(0, 30e-6)
                while time.perf_counter() < until:
                    pass
            time.sleep(20e-6)
        one.kill()
        return one.stdout.read() == b"over\n"


def test_a_signal_handler_may_ring_whatever_the_main_loop_does() -> None:
    """With `threading.Event` this hangs: the handler waits for a lock that its own thread holds."""
    assert _overcome(_RINGS)
