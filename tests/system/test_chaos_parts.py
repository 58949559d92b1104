"""What a campaign is made of, each alone: its tasks and their journal, the clock, the disk."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from loadtest.chaos import disks, journal
from loadtest.chaos.scripts import Script

_ROOT = Path(__file__).parents[2]
_ATTEMPT = {"DW_TASK_ID": "12", "DW_ATTEMPT": "2", "DW_AGENT": "a"}


def _start(script: Script, journal_: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        ["/bin/sh", "-c", f"exec {script.command(journal_)}"],
        env=os.environ | _ATTEMPT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


async def _until(true: Callable[[], bool], what: str) -> None:
    try:
        async with asyncio.timeout(20):
            while not true():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"never came true: {what}") from None


@pytest.mark.parametrize("binary", [False, True])
def test_a_task_writes_what_its_script_says(tmp_path: Path, *, binary: bool) -> None:
    """The checks make the same bytes again from the seed; the journal has its exit code."""
    script = Script(
        number=0, kind="writer", seed=3, seconds=0.2, out=200_001, err=77, codes=(0, 7),
        binary=binary,
    )  # fmt: skip
    task = _start(script, tmp_path / "journal")
    out, err = task.communicate(timeout=20)
    assert (out, err) == (script.content(2, "stdout"), script.content(2, "stderr"))
    assert task.returncode == 7
    (run,) = journal.read(tmp_path / "journal").values()
    assert (run.agent, run.code, run.starts) == ("a", 7, [task.pid])
    assert run.last_s - run.start_s >= 0.15


async def test_a_task_that_is_killed_stops_beating(tmp_path: Path) -> None:
    """Its last beat tells until when it ran, and what it had written at least."""
    script = Script(number=0, kind="long", seed=3, seconds=600, out=1_200_000)
    file = tmp_path / "journal"
    task = _start(script, file)

    def run() -> journal.Run:
        return journal.read(file)[12, 2]

    await _until(lambda: file.exists() and run().written[0] > 500, "it has written something")
    os.kill(task.pid, signal.SIGKILL)
    out, _ = task.communicate(timeout=20)
    assert run().code is None
    assert len(out) >= run().written[0]
    assert script.content(2, "stdout").startswith(out)


async def test_a_task_whose_output_nobody_reads_goes_on_beating(tmp_path: Path) -> None:
    """It hangs in a write, and runs all the same."""
    script = Script(number=0, kind="writer", seed=3, out=1_000_000)
    file = tmp_path / "journal"
    task = _start(script, file)
    try:
        await _until(file.exists, "it has started")
        first = journal.read(file)[12, 2]
        await _until(lambda: journal.read(file)[12, 2].last_s > first.last_s + 0.3, "it beats")
    finally:
        out, _ = task.communicate(timeout=20)
    assert out == script.content(2, "stdout")


async def test_what_a_task_leaves_behind_is_in_no_group_of_it(tmp_path: Path) -> None:
    """A signal to the group does not reach it; in the journal it beats as a process left."""
    script = Script(number=0, kind="family", seed=3, seconds=0.1, children=1)
    file = tmp_path / "journal"
    task = _start(script, file)
    task.communicate(timeout=20)
    end_s = journal.read(file)[12, 2].last_s
    await _until(lambda: journal.read(file)[12, 2].left_s > end_s + 0.2, "the child beats on")
    (line,) = {line.split()[4] for line in file.read_text().splitlines() if "child" in line}
    assert os.getpgid(int(line)) == int(line)
    os.kill(int(line), signal.SIGKILL)


def test_lines_of_many_attempts_are_told_apart() -> None:
    """Each by its task and attempt; a second start of the same one shows."""
    lines = [
        "1000000000 1 1 a 70 start", "1050000000 1 1 a 70 beat 10 0", "1060000000 2 1 b 80 start",
        "1100000000 1 1 a 70 beat 20 5", "1150000000 1 1 a 71 child", "1160000000 2 1 b 80 end 3",
        "1170000000 2 1 b 80 beat 0 0", "1180000000 1 1 c 90 start",
    ]  # fmt: skip
    runs = journal.collect(lines)
    assert runs.keys() == {(1, 1), (2, 1)}
    one, two = runs[1, 1], runs[2, 1]
    assert (one.starts, one.written, one.code) == ([70, 90], (20, 5), None)
    assert (one.start_s, one.left_s, one.over_s) == (1.0, 1.15, 1.18)
    assert (two.code, two.over_s) == (3, 1.16)
    assert journal.by_task(runs) == {1: {1: one}, 2: {1: two}}


def test_the_wall_clock_jumps_while_a_program_runs(tmp_path: Path) -> None:
    """Forwards and back; the clocks that nobody sets go on."""
    clock = tmp_path / "clock"
    clock.write_bytes(bytes(8))
    program = (
        "import time\n"
        "while input():\n"
        "    print(time.time(), time.time_ns() / 1e9, time.monotonic(), flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=os.environ | {
            "PYTHONPATH": str(_ROOT / "loadtest/chaos/skew"), "CHAOS_CLOCK": str(clock),
        },
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None

        def ask(wrong_by_s: int) -> list[float]:
            assert process.stdin is not None
            assert process.stdout is not None
            with clock.open("r+b") as file:
                file.write((wrong_by_s * 10**9).to_bytes(8, "little", signed=True))
            process.stdin.write("go\n")
            process.stdin.flush()
            return [float(word) for word in process.stdout.readline().split()]

        seconds, exact, steady = ask(0)
        later, later_exact, later_steady = ask(3600)
        back, _, last_steady = ask(-86_400)
        process.stdin.write("\n")
        process.stdin.flush()
    assert 3600 <= later - seconds < 3620
    assert 3600 <= later_exact - exact < 3620
    assert -86_400 <= back - seconds < -86_380
    assert steady <= later_steady <= last_steady < steady + 20


def test_a_disk_that_is_full_takes_no_byte(tmp_path: Path) -> None:
    """And all of them again when it is freed."""
    with disks.made(tmp_path / "disk", 2 * 1024 * 1024) as disk:
        if not disk.mounted:
            pytest.skip("no file system may be mounted here")
        disk.fill()
        with pytest.raises(OSError, match="No space") as full:
            (disk.path / "more").write_bytes(bytes(10_000))
        assert full.value.errno == errno.ENOSPC
        disk.free()
        (disk.path / "more").write_bytes(bytes(1_000_000))
    assert list((tmp_path / "disk").iterdir()) == []
