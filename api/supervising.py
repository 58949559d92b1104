"""Granian's main process as this server needs it: workers that come back, and end politely."""

import logging
import os
import queue
import signal
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

from granian.server.mp import MPServer, WorkerProcess

from api import listening
from api.listening import StartError
from api.settings import Settings

_log = logging.getLogger(__name__)


class Bell:
    """What `threading.Event` is to Granian's main loop, and a signal handler may set it.

    The handler runs in the thread that waits. Where that one was just taking or giving back the
    lock of an Event, `set` would wait for it for ever, and the server ignore SIGTERM.
    """

    def __init__(self) -> None:
        self._rings: queue.SimpleQueue[None] = queue.SimpleQueue()  # its `put` is reentrant

    def set(self) -> None:
        """Let `wait` return until `clear`."""
        self._rings.put(None)

    def wait(self) -> None:
        """Return when it has been set."""
        self._rings.put(self._rings.get())

    def clear(self) -> None:
        """Let `wait` wait again."""
        with suppress(queue.Empty):
            while True:
                self._rings.get_nowait()


class Server(MPServer):
    """Granian, whose workers first answer all parked requests when they shall stop."""

    settings: Settings
    answered = False
    """Workers that die are started again for ever, once one has shown that they can work."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.main_loop_interrupt: Any = Bell()

    def _respawn_workers(
        self, workers: list[int], target: Any, loader: Any, delay: float = 0
    ) -> None:
        if not delay:
            # Some died. Granian's notes of them can be cleared before they are read, and can come
            # after the dead one was replaced: then they mean one that lives.
            workers = [worker.idx for worker in self.wrks if not worker.inner.is_alive()]
        super()._respawn_workers(workers, target, loader, delay)
        if self.interrupt_children or self.interrupt_signal or self.reload_signal:
            self.main_loop_interrupt.set()  # it may have been cleared unheard
        if self.answered:
            # Granian ends the server where one worker dies twice within 5.5 s.
            self.respawned_wrks.clear()

    def _spawn_worker(self, *args: Any, **named: Any) -> WorkerProcess:
        worker: WorkerProcess = super()._spawn_worker(*args, **named)
        # Where it is replaced as well as at the end of the server.
        ending: Any = partial(_answer_and_end, worker, worker.terminate)
        worker.terminate = ending  # type: ignore[method-assign]  # its class is named nowhere
        return worker

    def signal_handler_reload(self, signum: int, frame: FrameType | None) -> None:
        """Replace the workers one by one, as for a new certificate; stay with a good one."""
        try:
            listening.tls_files(self.settings)
        except StartError as error:
            _log.error("not reloaded: %s", error)
            return
        super().signal_handler_reload(signum, frame)  # type: ignore[no-untyped-call]  # untyped


def _answer_and_end(worker: WorkerProcess, terminate: Callable[[], None]) -> None:
    worker.interrupt_by_parent = True  # a young one may die of the signal
    process: BaseProcess = worker.inner
    # Dead or alive: who waits for it in a thread may not have said yet that it is gone.
    with suppress(ProcessLookupError):
        if process.is_alive() and process.pid is not None:
            os.kill(process.pid, signal.SIGUSR1)
    terminate()
