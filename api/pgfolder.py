"""The folder of the embedded PostgreSQL: one server for it, and nothing left of a killed one."""

import fcntl
import hashlib
import os
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from api.pgcommand import Account, PostgresStartError

SOCKET_NAME = ".s.PGSQL.5432"
_SOCKET_PATH_BYTES = 107  # sockaddr_un holds 108, the last one is a NUL
_TEMP_PREFIX = "distributed-worker-"


class FolderLock:
    """Holds a data folder for one process. The kernel lets go of it when the process ends."""

    def __init__(self, data_dir: Path) -> None:
        """Take the lock, or raise PostgresStartError that names who has it."""
        self._file: int | None = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._file, 20, 0).decode(errors="replace").strip() or "unknown"
            self.release()
            raise PostgresStartError(
                f"{data_dir} is in use by another server (process {holder}): stop that one, "
                "or set DATA_DIR to another folder"
            ) from None
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)
        # A forked worker that outlives us would keep the lock with its copy of the file.
        os.register_at_fork(after_in_child=self.release)

    def release(self) -> None:
        """Let go; again does nothing."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def clear_leftovers(pgdata: Path) -> bool:
    """End what a killed server left running in ``pgdata``, and remove what it left lying there.

    Returns whether there was anything. Needs the FolderLock. Raises PostgresStartError if a
    process does not end. pid files are not believed: their process may be a zombie, or another
    program that got the number, or the file may be torn.
    """
    found = _end_processes(pgdata)
    for name in ("postmaster.pid", SOCKET_NAME, f"{SOCKET_NAME}.lock"):
        with suppress(FileNotFoundError):
            (pgdata / name).unlink()
            found = True
    return found


def socket_folder(data_dir: Path, pgdata: Path, account: Account) -> Path:
    """Choose where the socket goes: ``pgdata``, or a new temp folder if its path will not do.

    Too long for a unix socket, or with a comma, which separates hosts in a DSN. The choice is
    written down so that the next start removes a killed server's temp folder.
    """
    note = data_dir / "socket-folder"
    with suppress(FileNotFoundError):
        old = Path(note.read_text())
        if old.name.startswith(_TEMP_PREFIX) and old.parent == Path(tempfile.gettempdir()):
            shutil.rmtree(old, ignore_errors=True)
        note.unlink()
    path = str(pgdata / SOCKET_NAME)
    if len(os.fsencode(path)) <= _SOCKET_PATH_BYTES and "," not in path:
        return pgdata
    folder = Path(tempfile.mkdtemp(prefix=_TEMP_PREFIX))
    if account.uid is not None and account.gid is not None:
        os.chown(folder, account.uid, account.gid)
    note.write_text(str(folder))
    return folder


def _end_processes(pgdata: Path) -> bool:
    """Stop orphans: the main process first, which takes its own with it, then what is left."""
    found = False
    for pick, steps in (
        (_main_processes, ((signal.SIGINT, 30.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 10.0))),
        # Not SIGINT: to PostgreSQL's helpers it means other things than to the main process.
        (_helper_processes, ((signal.SIGQUIT, 10.0), (signal.SIGKILL, 10.0))),
    ):
        for step, patience_s in steps:
            pids = list(pick(pgdata))
            if not pids:
                break
            found = True
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, step)
            deadline = time.monotonic() + patience_s
            for pid in pids:
                wait_gone(pid, deadline - time.monotonic())
        if left := list(pick(pgdata)):
            raise PostgresStartError(f"process {left[0]} of an earlier PostgreSQL does not end")
    return found


def wait_gone(pid: int, patience_s: float) -> bool:
    """Wait until a process that need not be ours has ended; a zombie has."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], max(patience_s, 0))[0])
    finally:
        os.close(handle)


def cluster_name(pgdata: Path) -> str:
    """Name that PostgreSQL's processes on ``pgdata`` bear in their titles, to be found by.

    Anyone may read a title, where a process's folder or files take CAP_SYS_PTRACE, which root in
    a container lacks.
    """
    return f"dw-{hashlib.sha256(os.fsencode(pgdata)).hexdigest()[:16]}"


def _main_processes(pgdata: Path) -> Iterator[int]:
    """Find main PostgreSQL processes on ``pgdata``, whoever started them."""
    for pid, line in _processes():
        words = line.split(b"\0")
        if words[0].rpartition(b"/")[2] == b"postgres" and os.fsencode(pgdata) in words:
            yield pid


def _helper_processes(pgdata: Path) -> Iterator[int]:
    """Find what a main process on ``pgdata`` started: sessions, writers."""
    title = f"postgres: {cluster_name(pgdata)}: ".encode()
    return (pid for pid, line in _processes() if line.startswith(title))


def _processes() -> Iterator[tuple[int, bytes]]:
    """List living processes and their command lines; zombies and kernel threads have none."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                if line := (entry / "cmdline").read_bytes():
                    yield int(entry.name), line
