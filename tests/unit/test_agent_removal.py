"""Removing what a task left: all of it, and nothing else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.folders import Folders
from agent.removal import remove


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make one that a task has used."""
    made = tmp_path / "7"
    made.mkdir()
    return made


def test_everything_goes(folder: Path) -> None:
    """Files, folders, pipes, names of any bytes."""
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "file").write_text("x")
    os.mkfifo(folder / "pipe")
    (folder / "link").symlink_to("nowhere")
    (folder / os.fsdecode(b"\xff\n")).touch()
    assert remove(folder)
    assert not folder.exists()


def test_what_links_point_to_stays(folder: Path, tmp_path: Path) -> None:
    """A task could name any folder of its agent's user."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("x")
    (folder / "link").symlink_to(precious)
    (folder / "deep").mkdir()
    (folder / "deep" / "link").symlink_to(precious / "file")
    os.link(precious / "file", folder / "hard")
    assert remove(folder)
    assert (precious / "file").read_text() == "x"


def test_a_folder_that_became_a_link_is_removed_as_one(folder: Path, tmp_path: Path) -> None:
    """A task may replace its folder while it runs there."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("x")
    folder.rmdir()
    folder.symlink_to(precious)
    assert remove(folder)
    assert not folder.is_symlink()
    assert (precious / "file").exists()


def _as_others(*argv: str) -> int:
    """Run Python as a user for whom rights count, which they do not for root."""
    drop = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--"]
    prefix = [] if os.geteuid() else drop
    return subprocess.run([*prefix, sys.executable, "-c", *argv], check=False).returncode


def test_folders_that_nobody_may_enter_go(folder: Path) -> None:
    """Build tools write-protect what they have made."""
    deep = folder / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "file").write_text("x")
    for closed in (deep, deep.parent, folder):
        closed.chmod(0)
    listing = "import os, sys; os.listdir(sys.argv[1])"
    assert _as_others(listing, str(folder)) == 1, "rights count for nobody here"
    removing = (
        "import sys, pathlib, agent.removal as r; sys.exit(not r.remove(pathlib.Path(sys.argv[1])))"
    )
    assert _as_others(removing, str(folder)) == 0
    assert not folder.exists()


def test_a_path_deeper_than_descriptors_or_recursion_goes(folder: Path) -> None:
    """At 1,000 levels `shutil.rmtree` raised what ended the agent."""
    here = os.open(folder, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    try:
        assert remove(folder)
        assert not folder.exists()
    finally:  # pytest cannot, and would say so in every run to come
        subprocess.run(["rm", "-rf", folder], check=True)


def test_what_is_mounted_in_it_is_left_alone(folder: Path, tmp_path: Path) -> None:
    """It is not the task's: an agent of root's may run tasks that mount."""
    if not _can_mount():
        pytest.skip("mounting needs rights that this machine does not give")
    (folder / "own").mkdir()
    (folder / "mounted").mkdir()
    script = """
        mount -t tmpfs none "$1/mounted" && echo x > "$1/mounted/file" || exit 9
        "$2" -c "import sys, pathlib, agent.removal as r; print(r.remove(pathlib.Path('$1')))"
        cat "$1/mounted/file"; ls -A "$1"
    """
    done = subprocess.run(
        [*_PRIVATE, "sh", "-c", script, "sh", str(folder), sys.executable],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.split() == ["False", "x", "mounted"]


_PRIVATE = ["unshare", "--mount", "--map-root-user"]


def _can_mount() -> bool:
    tried = subprocess.run(
        [*_PRIVATE, "mount", "-t", "tmpfs", "none", "/mnt"], check=False, capture_output=True
    )
    return tried.returncode == 0


async def test_what_failed_is_kept_and_the_oldest_goes(tmp_path: Path) -> None:
    """People look into the newest ones; a night of failures must not fill the disk."""
    work = tmp_path / "work"
    work.mkdir()
    folders = Folders(work, tmp_path / "kept")
    for number in range(25):
        folder = folders.take()
        (folder.path / "file").write_text(str(number))
        await folders.keep(folder, f"{number}.1")
    kept = {one.name: (one / "file").read_text() for one in (tmp_path / "kept").iterdir()}
    assert kept == {f"{number}.1": str(number) for number in range(5, 25)}
    assert not [*work.iterdir()]


async def test_an_empty_folder_is_not_kept(tmp_path: Path) -> None:
    """There is nothing in it to look at."""
    folders = Folders(tmp_path, tmp_path / "kept")
    folder = folders.take()
    await folders.keep(folder, "1.1")
    assert not (tmp_path / "kept").exists()
    assert folders.take() is folder
