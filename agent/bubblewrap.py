"""Runs a task in namespaces of its own, by bubblewrap's `bwrap`.

It sees the system's folders, read-only, and its own one under /work, and besides its own processes
nobody's. The agent's home, state folder, environment and sockets are not there. What may be seen is
listed, not what may not: a new secret on the machine is hidden from the start.
"""

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from agent.launch import Launch, RefusedError
from agent.process import Exit

WORK = "/work"

_TEMPORARY = "/tmp"  # noqa: S108 - in the sandbox, where it is the task's own
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc")
_SETTABLE = ("sys", "sysrq-trigger", "irq", "bus", "fs", "acpi", "scsi", "mtrr", "pressure")
_NAMES = "/etc/resolv.conf"
_DEVICES = "/dev/"
_TRIAL_S = 10
_STEP_S = 0.05
_MOST_VARIABLES = 2900  # bwrap takes 9,000 arguments, three for each, and its other ones
_STARTED = b'"exit-code"'
_OTHERS_READ = 0o004

# Stays beside the command, because all others are killed as soon as it ends:
# - what was asked to end with it may take its time (the agent kills it after KILL_GRACE_S);
# - what holds its output open may still write, as the `tee` of a process substitution does.
_BESIDE = """
cd -- "$1" || exit 127
left=$2
shift 2
trap ending=1 TERM
exec 3>&2 2>/dev/null
(exec "$@" 2>&3 3>&-)
code=$?
held() {
    for fd in /proc/[0-9]*/fd/*; do
        case $fd in
            /proc/1/* | /proc/$$/*) ;;
            *) if [ "$fd" -ef /proc/$$/fd/1 ] || [ "$fd" -ef /proc/$$/fd/3 ]; then return 0; fi ;;
        esac
    done
    return 1
}
while { [ "$ending" ] && kill -0 -1; } || { [ "$left" -gt 0 ] && held; }; do
    left=$((left - 1))
    /bin/sleep 0.05
done
exit "$code"
"""


class Bubblewrap:
    """Makes command lines."""

    def __init__(
        self,
        program: str,
        *,
        network: bool,
        readable: Sequence[str],
        writable: Sequence[str],
        hidden: Path,
        pipe_wait_s: float,
    ) -> None:
        """`readable` and `writable` are shown besides the system's folders, `hidden` never is."""
        self._program = program
        self._steps = str(int(pipe_wait_s / _STEP_S))
        self._fixed = [*_namespaces(network), *_system()]
        self._given = [*_given(readable, writable)]
        if network:
            self._fixed += _resolver(readable)
        if any(hidden.is_relative_to(folder) for folder in _SYSTEM):
            self._fixed += ("--tmpfs", str(hidden))

    def works(self) -> str | None:
        """Try it out; None if it works, else why not."""
        argv = [self._program, *self._fixed, *self._given, "--", "/bin/sh", "-c", ":"]
        try:
            tried = subprocess.run(  # noqa: S603 - our own arguments
                argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TRIAL_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        if tried.returncode:
            return tried.stderr.decode(errors="replace").strip() or f"exit {tried.returncode}"
        return None

    def launch(
        self,
        command: Sequence[str | bytes],
        folder: Path,
        cwd: str | None,
        env: Mapping[bytes, bytes],
        outside: Mapping[bytes, bytes],
    ) -> Launch:
        """Run a command in a sandbox with this environment; `outside` is that of bwrap itself.

        A task's variables must not reach bwrap, which runs outside: LD_PRELOAD would be a way out.
        Nor may they stand in its arguments, which all users of the machine can read.
        """
        if len(env) > _MOST_VARIABLES:
            raise RefusedError(f"can pass at most {_MOST_VARIABLES} variables to a sandbox")
        for name in ("work", "tmp"):
            (folder / name).mkdir()
        words: list[bytes] = [b"--clearenv"]
        for variable, value in env.items():
            words += (b"--setenv", variable, value)
        status = folder / "status"
        status.touch(0o600)
        given = _in_memory(b"\0".join(words) + b"\0")
        try:
            told = os.open(status, os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            os.close(given)
            raise
        argv: list[str | bytes] = [
            self._program, "--args", str(given), "--json-status-fd", str(told), *self._fixed,
            "--bind", str(folder / "work"), WORK, "--bind", str(folder / "tmp"), _TEMPORARY,
            *self._given, "--remount-ro", "/",
            "--", "/bin/sh", "-c", _BESIDE, "sh", cwd or WORK, self._steps, *command,
        ]  # fmt: skip

        async def verdict(end: Exit) -> Exit:
            return end if _started(status) else _not_started(end)

        return Launch(
            argv, None, outside, (given, told), relayed=True, shielded=True, verdict=verdict
        )


def _in_memory(content: bytes) -> int:
    """Make a file in memory, at its beginning."""
    made = os.memfd_create("dw", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(made), "wb") as file:
        file.write(content)
    os.lseek(made, 0, os.SEEK_SET)
    return made


def _started(status: Path) -> bool:
    """Whether bwrap came so far that the command ran and ended."""
    try:
        return _STARTED in status.read_bytes()
    except OSError:
        return True


def _not_started(end: Exit) -> Exit:
    """Where bwrap itself failed, that is no fault of the command's."""
    if end.reason != "exit":
        return end
    why = "bwrap could not make the sandbox; what it says is in the attempt's stderr"
    return end._replace(reason="spawn_error", exit_code=None, message=why)


def _namespaces(network: bool) -> Iterator[str]:
    yield from ("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try")
    if not network:
        yield "--unshare-net"
    yield from ("--die-with-parent", "--new-session", "--cap-drop", "ALL")


def _system() -> Iterator[str]:
    for folder in _SYSTEM:
        path = Path(folder)
        if path.is_symlink():
            yield from ("--symlink", str(path.readlink()), folder)
        elif path.exists():
            yield from ("--ro-bind", folder, folder)
    yield from ("--proc", "/proc", "--dev", "/dev", "--dir", "/run", "--dir", "/var")
    yield from ("--symlink", _TEMPORARY, f"/var{_TEMPORARY}")
    if os.geteuid() == 0:
        yield from _roots_proc()
        yield from _root_only(Path("/etc"))


def _roots_proc() -> Iterator[str]:
    """Keep root's tasks from setting the machine, for which its files in /proc ask no capability.

    bwrap covers these folders where they can be written themselves, which /proc/sys cannot:
    kernel.core_pattern, a program that the kernel runs outside, could be set with version 0.8.
    """
    for name in _SETTABLE:
        if os.path.lexists(f"/proc/{name}"):
            yield from ("--ro-bind", f"/proc/{name}", f"/proc/{name}")


def _root_only(folder: Path) -> Iterator[str]:
    """Cover what other users may not read: root's tasks could, also without any capability."""
    for path in sorted(folder.iterdir()):
        if path.is_symlink():
            continue
        hidden = not path.stat().st_mode & _OTHERS_READ
        if path.is_dir():
            yield from ("--tmpfs", str(path)) if hidden else _root_only(path)
        elif hidden:
            yield from ("--ro-bind", "/dev/null", str(path))


def _given(readable: Sequence[str], writable: Sequence[str]) -> Iterator[str]:
    for path in readable:
        yield from ("--ro-bind", path, path)
    for path in writable:
        yield from ("--dev-bind" if path.startswith(_DEVICES) else "--bind", path, path)


def _resolver(readable: Sequence[str]) -> Iterator[str]:
    """Show what tells where names are looked up, where that is but a link in /etc."""
    real = os.path.realpath(_NAMES)
    if not any(real.startswith(f"{root}/") for root in (*_SYSTEM, *readable)):
        yield from ("--ro-bind-try", real, real)
