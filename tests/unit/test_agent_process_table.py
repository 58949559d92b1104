"""Processes are told apart and found, whatever they call themselves and whoever their parent is."""

import asyncio
import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent import process_table, state
from agent.folders import Folders
from agent.process_table import Group, Mark, Seen, Table

_MARK = Mark(b"0123", b"7", b"1")


@contextmanager
def _started(*argv: str | Path, **environ: str) -> Iterator[int]:
    process = subprocess.Popen(argv, env=environ, start_new_session=True)
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def _seen(pid: int, parent: int, session: int = 1, *, running: bool = True) -> Seen:
    return Seen(pid, parent, session, session, running, started=pid)


def test_a_name_can_be_anything(tmp_path: Path) -> None:
    """The system writes it between the numbers as it is."""
    program = tmp_path / "a) Z 1 (b"
    shutil.copy("/bin/sleep", program)
    with _started(program, "600") as pid:
        seen = process_table.look(pid)
        assert seen is not None
        assert seen[:5] == (pid, os.getpid(), pid, pid, True)
        assert process_table.read().get(pid) == seen


def test_a_process_that_took_the_number_is_not_signalled() -> None:
    """Numbers come again after some 32,000 processes."""
    with _started("/bin/sleep", "600") as pid:
        seen = process_table.look(pid)
        assert seen is not None
        other = seen._replace(started=seen.started - 1)
        assert not other.runs()
        assert not other.send(signal.SIGKILL)
        assert seen.runs()
        assert seen.send(signal.SIGKILL)


def test_an_old_kernel_has_no_pidfd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some sandboxes forbid it, too."""

    def refuse(pid: int) -> int:
        raise OSError(errno.ENOSYS, "no such call")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    with _started("/bin/sleep", "600") as pid:
        seen = process_table.look(pid)
        assert seen is not None
        assert not seen._replace(started=seen.started - 1).send(signal.SIGTERM)
        assert seen.send(signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM


def test_without_descriptors_nothing_is_seen() -> None:
    """A machine that is short must not end the agent as well."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        table = process_table.read()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert table.get(os.getpid()) is None
    assert process_table.read().get(os.getpid()) is not None


def test_what_has_ended_does_not_run() -> None:
    """Its parent has not asked how it ended: the number is still taken."""
    process = subprocess.Popen(["/bin/true"], start_new_session=True)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    seen = process_table.look(process.pid)
    assert seen is not None
    assert not seen.running
    assert not Group(process.pid).runs()
    process.wait()
    assert process_table.look(process.pid) is None
    assert not Group(process.pid).send(signal.SIGTERM)


def test_a_process_lives_as_long_as_any_of_its_threads() -> None:
    """The system calls it a zombie when the first one has ended."""
    program = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(600,)).start()
ctypes.CDLL(None).pthread_exit(None)
"""
    with _started(sys.executable, "-c", program) as pid:
        stat = Path(f"/proc/{pid}/stat")
        deadline = time.monotonic() + 20
        while ") Z " not in stat.read_text():
            assert time.monotonic() < deadline, stat.read_text()
        seen = process_table.look(pid)
        assert seen is not None
        assert seen.runs()


@pytest.mark.parametrize(
    ("environ", "mark"),
    [
        ({"DW_AGENT_ID": "0123", "DW_TASK_ID": "7", "DW_ATTEMPT": "1", "A": "b=c"}, _MARK),
        ({"DW_AGENT_ID": "0123"}, Mark(b"0123", b"", b"")),
        ({"DW_TASK_ID": "7", "DW_ATTEMPT": "1"}, None),
        ({}, None),
    ],
)
def test_the_environment_tells_the_attempt(environ: dict[str, str], mark: Mark | None) -> None:
    """Without an agent's id nothing is ours."""
    with _started("/bin/sleep", "600", **environ) as pid:
        table = process_table.read()
        seen = table.get(pid)
        assert seen is not None
        assert table.mark(seen) == mark


def test_members_of_an_attempt() -> None:
    """Descendants, the leader's session, what was known before; none of all others."""
    child, grandchild = _seen(11, 10), _seen(12, 11, session=12)
    ended, below = _seen(13, 10, running=False), _seen(14, 13)
    mate, known, reused = _seen(15, 5, session=10), _seen(16, 5, session=16), _seen(17, 5)
    others = [_seen(5, 1), _seen(20, 5), _seen(21, 20)]
    table = Table([_seen(10, 5, session=10), child, grandchild, ended, below, mate, known, reused])
    before = [known, reused._replace(started=1), _seen(18, 5)]
    found = table.members(10, _MARK, others, before)
    assert {seen.pid for seen in found} == {11, 12, 14, 15, 16}


def test_ancestors_in_a_circle_end() -> None:
    """Processes come and go while they are looked at."""
    assert Table([_seen(2, 3), _seen(3, 2), _seen(4, 2)]).above(4) == {4, 2, 3}


def test_a_folder_keeps_its_id(tmp_path: Path) -> None:
    """By it the next agent finds what the last one has left; one that is broken is made again."""
    ids = []
    for broken in (None, None, "", "\0\udcff x\n", None):
        if broken is not None:
            (tmp_path / "id").write_bytes(broken.encode(errors="surrogateescape"))
        with state.hold(str(tmp_path)) as held:
            ids.append(held.id)
            assert (held.root, held.work) == (tmp_path, tmp_path / "work")
    assert ids[0] == ids[1]
    assert ids[3] == ids[4]
    assert len(set(ids)) == 3
    assert all(len(bytes.fromhex(one)) == 16 for one in ids)


def test_what_tasks_write_is_closed_to_others(tmp_path: Path) -> None:
    """Sources, logs, what a test downloads: other users of the machine have no business there.

    Folders of an agent from before were open; what it kept may lie there for long.
    """
    for name in ("work", "kept"):
        (tmp_path / name).mkdir(mode=0o755)
    with state.hold(str(tmp_path)) as held:
        assert [path.stat().st_mode & 0o777 for path in (held.work, held.kept)] == [0o700] * 2
        held.kept.rmdir()
        folders = Folders(held.work, held.kept)
        folder = folders.take()
        (folder.path / "x").touch()
        asyncio.run(folders.keep(folder, "1.1"))
        assert (held.kept / "1.1" / "x").exists()
        assert held.kept.stat().st_mode & 0o777 == 0o700
