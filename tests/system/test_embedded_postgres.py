"""The embedded PostgreSQL comes back from every kind of death, with what was committed."""

import asyncio
import contextlib
import functools
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from api import pgcommand, pgfolder
from api.postgres import EmbeddedPostgres, PostgresStartError

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys
from pathlib import Path
from api.postgres import EmbeddedPostgres
postgres = EmbeddedPostgres(Path(sys.argv[1]), durable=False, max_connections=20)
print(postgres.start(), flush=True)
print(postgres.pid, flush=True)
sys.stdin.read()
postgres.stop()
"""
# Reads forever without waiting for anybody, so that nothing tells it that its server died.
BUSY = "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b"

# Docker's default capabilities, as far as they matter.
CONTAINER = "+chown,+dac_override,+fowner,+kill,+setgid,+setuid,+setpcap"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="changes users")


@pytest.fixture(name="folder")
def _folder(short_folder: Path) -> Path:
    return short_folder


@pytest.fixture(name="postgres")
def a_running_postgres(folder: Path) -> Iterator[EmbeddedPostgres]:
    """Start a PostgreSQL on `folder`/data."""
    postgres = make(folder / "data")
    postgres.start()
    yield postgres
    postgres.stop()


def make(data_dir: Path) -> EmbeddedPostgres:
    """Make one that is small and does not wait for the disk."""
    return EmbeddedPostgres(data_dir, durable=False, max_connections=20)


def dsn_of(data_dir: Path) -> str:
    """Tell where the one on `data_dir` listens."""
    return f"postgresql://postgres@/postgres?host={data_dir / 'postgres'}"


@contextlib.contextmanager
def server_process(data_dir: Path, *prefix: str) -> Iterator[tuple[psutil.Process, str, int]]:
    """Start PostgreSQL out of a process of its own; yield that, the DSN, and PostgreSQL's id."""
    with subprocess.Popen(
        [*prefix, sys.executable, "-c", PROGRAM, str(data_dir)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        dsn = program.stdout.readline().strip()
        assert dsn.startswith("postgresql://"), "it did not start"
        yield psutil.Process(program.pid), dsn, int(program.stdout.readline())
        program.stdin.close()


async def eventually(condition: Callable[[], bool], what: str, within_s: float = 30) -> None:
    """Wait for a condition that no event announces; say what did not come true."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    """Tell whether it runs; a zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def keep(dsn: str) -> None:
    """Commit something to find again."""
    connection = await asyncpg.connect(dsn)
    await connection.execute("CREATE TABLE kept (word text); INSERT INTO kept VALUES ('kept')")
    await connection.close()


async def kept(dsn: str) -> list[str]:
    """Read what was committed, as soon as there is somebody to ask."""
    deadline = time.monotonic() + 30
    while True:
        try:
            connection = await asyncpg.connect(dsn)
        except (OSError, asyncpg.PostgresError):
            assert time.monotonic() < deadline, "PostgreSQL did not come back"
            await asyncio.sleep(0.01)
        else:
            break
    try:
        return [row["word"] for row in await connection.fetch("SELECT word FROM kept")]
    finally:
        await connection.close()


async def test_data_outlives_stop_and_start(folder: Path) -> None:
    """And a folder that was stopped is free for the next server, in this process or another."""
    first = make(folder / "data")
    dsn = first.start()
    await keep(dsn)
    pid = first.pid
    assert pid
    first.stop()
    first.stop()
    assert not alive(pid)
    second = make(folder / "data")
    assert second.start() == dsn
    assert await kept(dsn) == ["kept"]
    second.stop()
    assert first.start() == dsn
    first.stop()


async def test_it_is_started_again_after_kill_9(postgres: EmbeddedPostgres, folder: Path) -> None:
    """Nobody has to be there when PostgreSQL dies, and dies again."""
    dsn = dsn_of(folder / "data")
    await keep(dsn)
    for _ in range(3):
        before = postgres.pid
        assert before
        os.kill(before, signal.SIGKILL)
        is_another = functools.partial(lambda dead: postgres.pid not in {None, dead}, before)
        await eventually(is_another, "started again")
        assert await kept(dsn) == ["kept"]


@pytest.mark.parametrize(
    "prefix",
    [(), pytest.param(("setpriv", f"--bounding-set=-all,{CONTAINER}"), marks=needs_root)],
    ids=["", "in a container"],
)
async def test_a_busy_backend_does_not_keep_it_down(folder: Path, prefix: tuple[str, ...]) -> None:
    """In a long statement a backend does not see its PostgreSQL die, and holds its memory.

    Root in a container may not look at another user's process.
    """
    with server_process(folder / "data", *prefix) as (_, dsn, pid):
        await keep(dsn)
        connection = await asyncpg.connect(dsn)
        backend = connection.get_server_pid()
        busy = asyncio.ensure_future(connection.execute(BUSY))
        watcher = await asyncpg.connect(dsn)
        state = "SELECT state FROM pg_stat_activity WHERE pid = $1"
        while await watcher.fetchval(state, backend) != "active":
            pass
        os.kill(pid, signal.SIGKILL)
        with pytest.raises((OSError, asyncpg.PostgresError)):
            await busy
        assert await kept(dsn) == ["kept"]
        assert not alive(backend)
        connection.terminate()
        watcher.terminate()


async def test_kill_9_of_the_server_takes_postgres_along(folder: Path) -> None:
    """No PostgreSQL without its server; and what was committed is there for the next one."""
    with server_process(folder / "data") as (program, dsn, pid):
        await keep(dsn)
        program.kill()
        await eventually(lambda: not alive(pid), "PostgreSQL shuts down")
    postgres = make(folder / "data")
    assert postgres.start() == dsn
    assert await kept(dsn) == ["kept"]
    postgres.stop()


async def test_kill_9_of_both_and_a_start_at_once(folder: Path) -> None:
    """The next start may meet backends that have not noticed yet."""
    with server_process(folder / "data") as (program, dsn, pid):
        await keep(dsn)
        program.suspend()
        os.kill(pid, signal.SIGKILL)
        program.kill()
        program.wait()
        postgres = make(folder / "data")
        assert postgres.start() == dsn
    assert await kept(dsn) == ["kept"]
    postgres.stop()


async def test_an_orphan_is_stopped_before_the_next_start(folder: Path) -> None:
    """It can outlive its server: where the kernel could not be asked to end it too."""
    postgres = make(folder / "data")
    dsn = postgres.start()
    await keep(dsn)
    postgres.stop()
    pgdata = folder / "data" / "postgres"
    account = pgcommand.choose_account(pgdata)
    programs = pgcommand.find_programs()
    prefix = pgcommand.command_prefix(account, [*programs.needed, folder / "data"])
    if prefix:
        prefix[prefix.index("--pdeathsig") + 1] = "clear"
    orphan = subprocess.Popen(
        [*prefix, programs.bin / "postgres", "-D", pgdata, "-k", pgdata, "-h", ""],
        env=pgcommand.environment(),
        stderr=subprocess.DEVNULL,
    )
    assert await kept(dsn) == ["kept"]
    assert postgres.start() == dsn
    assert orphan.wait(1) == 0, "it was stopped in order"
    assert postgres.pid != orphan.pid
    assert await kept(dsn) == ["kept"]
    postgres.stop()


@pytest.mark.parametrize("text", ["SELF\n/elsewhere\n", "1\n", "12", "", "\x00\xff"])
async def test_stale_and_torn_pid_files_are_not_believed(folder: Path, text: str) -> None:
    """After a crash the number may be another program's by now, or the file half written."""
    postgres = make(folder / "data")
    dsn = postgres.start()
    await keep(dsn)
    postgres.stop()
    for name in ("postmaster.pid", ".s.PGSQL.5432.lock", ".s.PGSQL.5432"):
        content = text.replace("SELF", str(os.getpid()))
        (folder / "data" / "postgres" / name).write_text(content)
    assert postgres.start() == dsn
    assert await kept(dsn) == ["kept"]
    postgres.stop()


def test_another_program_with_the_folder_in_its_words_is_left_alone(folder: Path) -> None:
    """An editor in the data folder is no PostgreSQL."""
    with subprocess.Popen(
        [sys.executable, "-c", "input()", "postgres", "-D", str(folder)],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=folder,
    ) as editor:
        assert pgfolder.clear_leftovers(folder) is False
        assert editor.poll() is None
        editor.kill()


@pytest.mark.usefixtures("postgres")
def test_a_second_server_on_the_folder_is_refused(folder: Path) -> None:
    """Two PostgreSQL on one folder would destroy it."""
    with pytest.raises(PostgresStartError, match=f"process {os.getpid()}"):
        make(folder / "data").start()


_FORKING = """
import os, sys
from pathlib import Path
from tests.system.test_embedded_postgres import make
postgres = make(Path(sys.argv[1]))
postgres.start()
read, write = os.pipe()
worker = os.fork()
if worker == 0:
    os.read(read, 1)
    os._exit(0)
postgres.stop()
try:
    postgres.start()
    postgres.stop()
finally:
    os.write(write, b"x")
    os.waitpid(worker, 0)
"""


async def test_a_forked_worker_does_not_keep_the_folder(folder: Path) -> None:
    """Workers that are forked can outlive a killed main process for a moment.

    In a program of its own: libraries of other tests start threads, and a fork of those hangs.
    """
    words = [sys.executable, "-c", _FORKING, str(folder / "data")]
    forking = await asyncio.create_subprocess_exec(
        *words, cwd=Path(__file__).parents[2], stderr=asyncio.subprocess.PIPE
    )
    _, complaint = await forking.communicate()
    assert forking.returncode == 0, complaint.decode()


async def test_a_path_too_long_for_a_socket(folder: Path) -> None:
    """A unix socket's path holds 107 bytes; a clone may lie deeper."""
    deep = folder / ("d" * 90) / "data"
    with server_process(deep) as (program, dsn, _):
        program.kill()
        left = Path(dsn.partition("host=")[2].replace("%2F", "/"))
        assert left.exists()
    postgres = make(deep)
    dsn = postgres.start()
    sockets = Path(dsn.partition("host=")[2].replace("%2F", "/"))
    assert not left.exists(), "the killed server's folder is removed by the next"
    assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    await keep(dsn)
    assert await kept(dsn) == ["kept"]
    postgres.stop()
    assert not sockets.exists()


async def test_a_path_with_awkward_letters(folder: Path) -> None:
    """Spaces, quotes and commas mean something in DSNs and in PostgreSQL's settings."""
    for name in ("a b", 'a"b', "a,b", "a'b", "a%2Fb&c=d"):
        postgres = make(folder / name)
        dsn = postgres.start()
        await keep(dsn)
        postgres.stop()


async def test_a_killed_first_start_leaves_nothing_half_made(folder: Path) -> None:
    """Initdb works under another name until it is done."""
    (folder / "postgres.new").mkdir()
    (folder / "postgres.new" / "PG_VERSION").write_text("18\n")
    postgres = make(folder)
    await keep(postgres.start())
    postgres.stop()
    assert not (folder / "postgres.new").exists()


def test_a_failed_start_shows_postgres_own_words(folder: Path) -> None:
    """And leaves the folder free."""
    postgres = make(folder)
    postgres.start()
    postgres.stop()
    with (folder / "postgres" / "postgresql.conf").open("a") as settings:
        settings.write("no_such_setting = 1\n")
    for _ in range(2):
        with pytest.raises(PostgresStartError, match="no_such_setting"):
            postgres.start()


def test_the_error_without_the_package_says_what_to_do(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package is an extra: a deployment brings its own PostgreSQL."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(PostgresStartError, match=r"extra `embedded`, or set DATABASE_URL"):
        make(folder).start()


@needs_root
async def test_below_a_closed_folder_no_mode_is_changed(folder: Path) -> None:
    """A clone in /root must work, and /root must stay closed."""
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    programs = pgcommand.find_programs().bin
    outside = [closed, *closed.parents, programs, *programs.parents, programs / "postgres"]
    before = [(path.stat().st_mode, path.stat().st_uid) for path in outside]
    postgres = make(closed / "data")
    dsn = postgres.start()
    await keep(dsn)
    assert await kept(dsn) == ["kept"]
    pid = postgres.pid
    assert pid
    assert psutil.Process(pid).username() == "nobody"
    postgres.stop()
    assert [(path.stat().st_mode, path.stat().st_uid) for path in outside] == before
    assert stat.S_IMODE((closed / "data").stat().st_mode) == 0o700
    assert (closed / "data").stat().st_uid == 0


@needs_root
@pytest.mark.parametrize("more", ["", ",+dac_read_search"])
async def test_as_root_with_few_capabilities(folder: Path, more: str) -> None:
    """Docker's default set has dac_override, and no dac_read_search."""
    bounding = f"--bounding-set=-all,{CONTAINER}{more}"
    with server_process(folder / "data", "setpriv", bounding) as (_, dsn, _):
        await keep(dsn)
        assert await kept(dsn) == ["kept"]


@needs_root
def test_as_root_without_a_capability_to_pass(folder: Path) -> None:
    """The error says what to do: nothing is opened to others behind anybody's back."""
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    bounding = "--bounding-set=-all,+chown,+kill,+setgid,+setuid,+setpcap"
    program = subprocess.run(
        ["setpriv", bounding, sys.executable, "-c", PROGRAM, str(closed / "data")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "cannot reach" in program.stderr.splitlines()[-1]
    assert "set DATA_DIR" in program.stderr.splitlines()[-1]
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@needs_root
async def test_as_somebody_else(folder: Path) -> None:
    """Not as root, PostgreSQL runs as ourselves, and ends with us all the same."""
    nobody = pgcommand.choose_account(folder / "not there")
    assert nobody.uid is not None
    assert nobody.gid is not None
    os.chown(folder, nobody.uid, nobody.gid)
    shutil.rmtree(folder / "data", ignore_errors=True)
    # The interpreter and this clone may lie below a closed folder.
    prefix = pgcommand.command_prefix(nobody, [Path(sys.executable).resolve(), folder, ROOT])
    with server_process(folder / "data", *prefix) as (program, dsn, pid):
        assert program.uids().real == nobody.uid
        assert psutil.Process(pid).uids().real == nobody.uid
        await keep(dsn)
        program.kill()
        await eventually(lambda: not alive(pid), "PostgreSQL shuts down")
    # And root can take over what was made by somebody else.
    postgres = make(folder / "data")
    assert postgres.start() == dsn
    assert await kept(dsn) == ["kept"]
    postgres.stop()


def test_a_data_folder_that_cannot_be_one(folder: Path) -> None:
    """The error names the folder, whatever is wrong with it."""
    (folder / "file").touch()
    for wrong in (folder / "file", folder / "file" / "data"):
        with pytest.raises(PostgresStartError, match=f"{wrong} cannot be used"):
            make(wrong).start()


def test_a_long_log_is_cut_at_the_start(folder: Path) -> None:
    """A server that runs for years fills no disk with what its PostgreSQL said."""
    (folder / "postgres.log").write_bytes(b"x" * 9 * 1024 * 1024)
    postgres = make(folder)
    postgres.start()
    postgres.stop()
    assert (folder / "postgres.log").stat().st_size < 100_000
