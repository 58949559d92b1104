"""Calls that only Linux has, each with a way round for other systems.

`PORTABLE` forces the ways round: the tests run both.
"""

import contextlib
import ctypes
import fcntl
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the guardian has no use for it, and it takes memory
    import asyncio

PORTABLE = False

WIDE_PIPE_BYTES = 1_048_576  # what an unprivileged process may ask for by default

_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37
_M_MMAP_THRESHOLD = -3
_M_TRIM_THRESHOLD = -1
_LARGE_BLOCK_BYTES = 1_048_576
_SPARE_BYTES = 16_777_216


def has_proc() -> bool:
    """Tell whether /proc lists the processes."""
    return not PORTABLE and os.path.exists("/proc/self/stat")  # noqa: PTH110 - no Path each time


def adopt_orphans() -> bool:
    """Become the parent of descendants whose own one ends; False where the system cannot do that.

    Children do not inherit it, exec keeps it: PR_SET_CHILD_SUBREAPER in prctl(2).
    """
    return _prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1))


def adopts_orphans() -> bool:
    """Tell whether this process was made to do so."""
    answer = ctypes.c_int()
    return _prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(answer)) and answer.value == 1


def _prctl(option: int, argument: object) -> bool:
    if PORTABLE or sys.platform != "linux":
        return False
    nothing = ctypes.c_ulong(0)
    return bool(ctypes.CDLL(None).prctl(option, argument, nothing, nothing, nothing) == 0)


def free_large_blocks() -> None:
    """Let the C library give large blocks back to the system when they are freed.

    Else it learns to keep them, and blocks of many sizes leave holes: an agent of which 16 tasks
    wrote as fast as they could took 229 MiB at most and kept 195, instead of 214 and 174. With a
    limit of 128 KiB it was 170 and 71, but each read from a pipe was new memory then: a quarter
    less log a second.
    """
    if PORTABLE or sys.platform != "linux":
        return
    with contextlib.suppress(AttributeError):  # musl has nothing to set
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES)
        library.mallopt(_M_TRIM_THRESHOLD, _SPARE_BYTES)


def boot_s() -> float:
    """Seconds on a clock that nobody sets and that goes on while the machine sleeps."""
    if not PORTABLE and hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    # On macOS this one counts sleep too; Python's time.monotonic() there does not.
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def ended_child() -> int | None:
    """Find a child that has ended, and leave it unreaped; ChildProcessError if we have none."""
    ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return None if ended is None else ended.si_pid


def widen_pipe(fd: int) -> None:
    """Let the pipe hold more than 64 KiB, if the system allows it."""
    if PORTABLE or not hasattr(fcntl, "F_SETPIPE_SZ"):
        return
    with contextlib.suppress(OSError):  # over the user's share of pipe pages: the size stays
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, WIDE_PIPE_BYTES)


def watch_exit(
    loop: "asyncio.AbstractEventLoop", pid: int, exited: Callable[[], None]
) -> Callable[[], None]:
    """Call `exited` in the loop once when the child has ended, and leave it unreaped if possible.

    Returns what stops the watching. Without pidfd one thread waits for each child.
    """
    if not PORTABLE and hasattr(os, "pidfd_open"):
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:  # old kernel, or a sandbox that forbids it
            pass
        else:
            return _watch_pidfd(loop, pidfd, exited)
    threading.Thread(target=_wait_in_thread, args=(loop, pid, exited), daemon=True).start()
    return lambda: None


def _watch_pidfd(
    loop: "asyncio.AbstractEventLoop", pidfd: int, exited: Callable[[], None]
) -> Callable[[], None]:
    watching = True

    def stop() -> None:
        nonlocal watching
        if watching:
            watching = False
            loop.remove_reader(pidfd)
            os.close(pidfd)

    def readable() -> None:
        stop()
        exited()

    loop.add_reader(pidfd, readable)
    return stop


def _wait_in_thread(
    loop: "asyncio.AbstractEventLoop", pid: int, exited: Callable[[], None]
) -> None:
    with contextlib.suppress(ChildProcessError):
        if hasattr(os, "waitid"):
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        else:  # macOS before Python 3.13
            _wait_kqueue(pid)
    with contextlib.suppress(RuntimeError):  # the loop is closed: the agent is gone
        loop.call_soon_threadsafe(exited)


def _wait_kqueue(pid: int) -> None:
    import select  # noqa: PLC0415 - kqueue is not in it on Linux

    # The ignores: on Linux mypy knows none of these.
    queue = select.kqueue()  # type: ignore[attr-defined,unused-ignore]
    event = select.kevent(  # type: ignore[attr-defined,unused-ignore]
        pid,
        select.KQ_FILTER_PROC,  # type: ignore[attr-defined,unused-ignore]
        select.KQ_EV_ADD | select.KQ_EV_ONESHOT,  # type: ignore[attr-defined,unused-ignore]
        select.KQ_NOTE_EXIT,  # type: ignore[attr-defined,unused-ignore]
    )
    with contextlib.closing(queue), contextlib.suppress(ProcessLookupError):
        queue.control([event], 1)
