"""`dw watch` and `dw top` beside a real server and agent, on a real pseudo-terminal."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import psutil
import pytest

from benchmarks import server as servers
from benchmarks.server import BenchServer
from tests.api.test_real_server import _free_port, started
from tests.system.terminal import ENTERED, LEFT, Terminal, terminal
from tests.system.test_whole import _agent, _dw, _environ

_LOOP = 'while read line; do echo "$line"; done'


@pytest.fixture(scope="module")
def server() -> Iterator[BenchServer]:
    """Start a server, and an agent that sends nothing for an hour unless it is asked to."""
    with servers.start() as running, _agent(running, 4, FLUSH_S="3600", AGENT_NAME="farm-1"):
        yield running


class _Task:
    """A task that writes what it is told to, and ends when told to."""

    def __init__(self, server: BenchServer, folder: Path, group: str, name: str, end: str) -> None:
        gate = folder / re.sub(r"\W", "-", f"{group}-{name}")
        os.mkfifo(gate)
        words = ["submit", "--group", group, "--name", name, "--", f"{_LOOP} < {gate}; {end}"]
        done = _dw(server, *words)
        assert done.returncode == 0, done
        self.id = done.stdout.split()[1]
        self._writer: IO[str] = gate.open("w")  # waits until the task reads it

    def write(self, line: str) -> None:
        self._writer.write(f"{line}\n")
        self._writer.flush()

    def end(self) -> None:
        self._writer.close()


@contextmanager
def _watching(server: BenchServer, *words: str, **size: int) -> Iterator[Terminal]:
    with terminal(words, _environ(server), **size) as one:
        yield one


def _line_of(shown: list[str], text: str) -> str:
    return next(line for line in shown if text in line)


def test_a_group_is_seen_while_it_runs_and_leaves_a_summary(
    server: BenchServer, tmp_path: Path
) -> None:
    """Each task with its last line within moments, what fails with why, the exit code of wait."""
    good = _Task(server, tmp_path, "g/watch", "ui-login", "exit 0")
    bad = _Task(server, tmp_path, "g/watch", "ui-pay", "exit 3")
    with _watching(server, "watch", "g/watch") as screen:
        screen.until_text("ui-login")
        shown = screen.until_text("2 running")
        assert "0 of 2" in shown[0]
        assert shown[-1] == "q quits; tasks keep running"
        good.write("step one")
        line = _line_of(screen.until_text("step one"), "step one")
        assert re.search(rf"{good.id}  ui-login +farm-1 .* s  step one$", line)
        good.write("\x1b[31mstep \x1b]0;x\x07two\x1b[0m")
        screen.until_text("step two")
        bad.write("looking for the button")
        bad.write("AssertionError: no button")
        bad.end()
        shown = screen.until_text("not succeeded (1)")
        assert f"{bad.id}  failed (exit 3)" in _line_of(shown, "ui-pay")
        assert any(line.endswith("│ AssertionError: no button") for line in shown)
        screen.until(lambda lines: "1 of 2" in lines[0])
        assert "1 failed  1 running" in screen.shown[1]
        good.end()
        assert screen.wait() == 1
        assert screen.raw.count(ENTERED) == screen.raw.count(LEFT) == 1
        assert screen.now_modes == screen.modes
        text = "\n".join(screen.shown)
        assert "2 tasks: 1 failed, 1 succeeded" in text
        assert "AssertionError: no button" in text
        assert text.index("ui-pay") < text.index("slowest") < text.index("ui-login")
    assert _dw(server, "wait", "--group", "g/watch").returncode == 1


def test_a_group_that_has_ended_is_told_at_once(server: BenchServer) -> None:
    """Whoever comes late sees the summary; so does a pipe."""
    _dw(server, "submit", "--group", "over", "--wait", "--", "true")
    with _watching(server, "watch", "over") as screen:
        assert screen.wait() == 0
        assert "1 task: 1 succeeded" in "\n".join(screen.shown)
    done = _dw(server, "watch", "over")
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 task: 1 succeeded" in done.stdout


def test_the_screen_follows_its_size(server: BenchServer, tmp_path: Path) -> None:
    """Made smaller and larger, it is filled each time: nothing wraps, nothing old stays."""
    task = _Task(server, tmp_path, "size", "a name of some length for a task", "exit 0")
    with _watching(server, "watch", "size", columns=100, lines=30) as screen:
        task.write("x" * 300)
        screen.until_text("xxx")
        for columns, lines in ((60, 12), (140, 40), (30, 6)):
            screen.resize(columns, lines)
            shown = screen.until(lambda lines: lines[-1] == "q quits; tasks keep running")
            assert len(shown) == lines
            assert sum("0 of 1" in line for line in shown) == 1
            assert shown.count("running (1)") == 1
        task.end()
        assert screen.wait() == 0


@pytest.mark.parametrize(
    ("how", "code"), [(b"\x03", 130), (b"q", 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_leaving_restores_the_terminal_and_the_tasks_go_on(
    server: BenchServer, tmp_path: Path, how: bytes | signal.Signals, code: int
) -> None:
    """The cursor, the echo, the screen from before; and how to come back."""
    group = f"left-{code}-{how!r}".replace("\\", "")
    group = re.sub(r"\W", "", group)
    task = _Task(server, tmp_path, group, "stays", "exit 0")
    with _watching(server, "watch", group, columns=160) as screen:
        screen.until_text("stays")
        assert screen.now_modes != screen.modes  # what is typed is not echoed
        if isinstance(how, bytes):
            screen.type(how)
        else:
            screen.process.send_signal(how)
        assert screen.wait() == code
        assert screen.raw.count(ENTERED) == screen.raw.count(LEFT) == 1
        assert screen.raw.rfind(b"\x1b[?25h") > screen.raw.rfind(b"\x1b[?25l")
        assert screen.now_modes == screen.modes
        text = "\n".join(screen.shown)
        assert f"0 of 1 have ended, 0 failed; the rest keep running: dw watch {group}" in text
        assert "Traceback" not in text
    assert json.loads(_dw(server, "show", task.id, "--json").stdout)["status"] == "in_progress"
    task.end()
    assert _dw(server, "wait", task.id).returncode == 0


def test_a_stopped_watch_gives_the_terminal_back_and_comes_again(
    server: BenchServer, tmp_path: Path
) -> None:
    """Ctrl-Z, and fg."""
    task = _Task(server, tmp_path, "stopped", "stays", "exit 0")
    with _watching(server, "watch", "stopped") as screen:
        screen.until_text("stays")
        screen.type(b"\x1a")
        state = psutil.Process(screen.process.pid)
        deadline = time.monotonic() + 20
        while state.status() != psutil.STATUS_STOPPED:
            assert time.monotonic() < deadline, state.status()
            time.sleep(0.01)
        assert screen.now_modes == screen.modes
        assert screen.raw.count(LEFT) == 1
        screen.process.send_signal(signal.SIGCONT)
        screen.until_text("q quits")
        assert screen.now_modes != screen.modes
        task.end()
        assert screen.wait() == 0
        assert screen.raw.count(ENTERED) == screen.raw.count(LEFT) == 2


async def test_a_server_that_goes_away_and_comes_back(
    database_url: str, short_folder: Path, tmp_path: Path
) -> None:
    """The screen says so meanwhile, and goes on where it was: nothing is lost or told twice."""
    port = str(_free_port())
    server = BenchServer(int(port), 0, "")
    with terminal(["watch", "away"], _environ(server)) as unreachable:
        assert unreachable.wait() == 5  # nobody has ever answered there
        assert ENTERED not in unreachable.raw
    async with started(database_url, short_folder, PORT=port):
        agent = _agent(server, 2, AGENT_NAME="farm-1")
        agent.__enter__()
        task = _Task(server, tmp_path, "away", "stays", "exit 3")
        screens = terminal(["watch", "away"], _environ(server))
        screen = screens.__enter__()
        task.write("before")
        screen.until_text("before")
    try:
        screen.until_text("the server does not answer")
        assert "1 running" in screen.shown[1]
        async with started(database_url, short_folder, PORT=port):
            task.write("after")
            shown = screen.until_text("after")
            assert not any("does not answer" in line for line in shown)
            task.end()
            assert screen.wait() == 1
            text = "\n".join(screen.shown)
            assert "before" in text
            assert text.count("failed (exit 3)") == 2  # among the failures, and the slowest
            agent.__exit__(None, None, None)
    finally:
        screens.__exit__(None, None, None)


def test_a_thousand_tasks_make_no_flicker_and_no_load(server: BenchServer) -> None:
    """Frames are written over each other, never on an emptied screen, however fast tasks end."""
    lines = "".join(f"echo {number}; exit {int(number % 100 == 7)}\n" for number in range(1000))
    done = _dw(server, "submit", "--group", "many", "--file", "-", stdin=lines)
    assert done.returncode == 0, done
    began = time.monotonic()
    with _watching(server, "watch", "many", columns=120, lines=40) as screen:
        process = psutil.Process(screen.process.pid)
        screen.until(lambda lines: lines[-1] == "q quits; tasks keep running")
        used_s = 0.0
        while screen.process.poll() is None:
            try:
                used_s = sum(process.cpu_times()[:2])
            except psutil.NoSuchProcess:
                break
            time.sleep(0.02)
            assert time.monotonic() - began < 100
        took_s = time.monotonic() - began
        assert screen.wait() == 1
        text = "\n".join(screen.shown)
        assert "10 failed, 990 succeeded" in text
        assert screen.raw.count(b"\x1b[2J") == 0
        assert used_s < 0.5 * took_s + 1.5, (used_s, took_s)


def test_lines_and_events_where_there_is_no_terminal(server: BenchServer, tmp_path: Path) -> None:
    """For CI: a line for each start and end, and why; for programs: events."""
    task = _Task(server, tmp_path, "plain", "ui-pay", "exit 3")
    with (
        _piped(server, "watch", "plain") as lines,
        _piped(server, "watch", "plain", "--json") as events,
    ):
        assert _next(lines).endswith("group plain: 1 task, 0 ended\n")
        assert _next(lines).endswith(f"task {task.id} ui-pay: runs on farm-1\n")
        assert json.loads(_next(events))["event"] == "group"
        task.write("AssertionError")
        task.end()
        line = _next(lines)
        assert re.fullmatch(rf"..:..:..  task {task.id} ui-pay: failed \(exit 3\) after .*\n", line)
        assert _next(lines) == "          | AssertionError\n"
        assert (lines.wait(30), events.wait(30)) == (1, 1)
        rest = [json.loads(line) for line in events.stdout or ()]
        assert [each["event"] for each in rest][-2:] == ["end", "group"]
        assert "output" not in {each["event"] for each in rest}


def test_what_no_agent_can_take_is_told(server: BenchServer, tmp_path: Path) -> None:
    """Nothing moves, and the screen says why; what else runs is none of that."""
    task = _Task(server, tmp_path, "stuck", "runs", "exit 0")
    for _ in range(2):
        waits = _dw(server, "submit", "--group", "stuck", "--needs", "gpu", "--", "true")
    number = waits.stdout.split()[1]
    line = f"task {int(number) - 1} and others wait: no live agent has the label gpu"
    with (
        _piped(server, "watch", "stuck") as lines,
        _watching(server, "watch", "stuck") as screen,
    ):
        shown = screen.until_text(line)
        assert shown.index(next(each for each in shown if "runs" in each and "farm-1" in each)) > 2
        told = [_next(lines) for _ in range(3)]
        assert line in told[2], told
        with _agent(server, 1, AGENT_NAME="farm-2", LABELS="gpu"):
            shown = screen.until(lambda lines: not any("no live agent" in each for each in lines))
            task.end()
            assert screen.wait() == lines.wait(30) == 0
        assert lines.stdout is not None
        assert line not in lines.stdout.read()


async def test_a_lost_agent_is_told_in_a_pipe(
    database_url: str, short_folder: Path, tmp_path: Path
) -> None:
    """CI's log must show why a test ran twice, and where it was lost."""
    async with started(database_url, short_folder, LEASE_S="3") as running:
        server = BenchServer(running.port, 0, "")
        with _agent(server, 1, AGENT_NAME="farm-1", LABELS="a") as lost:
            words = ["--group", "lost", "--name", "ui-pay", "--needs", "a", "--"]
            done = _dw(server, "submit", *words, f"test -e {tmp_path}/go || sleep 60")
            number = done.stdout.split()[1]
            with _piped(server, "watch", "lost") as lines:
                assert _next(lines).endswith("group lost: 1 task, 0 ended\n")
                assert _next(lines).endswith(f"task {number} ui-pay: runs on farm-1\n")
                (tmp_path / "go").touch()
                guardian = psutil.Process(lost.pid)
                for process in (*guardian.children(recursive=True), guardian):
                    process.kill()
                assert re.fullmatch(
                    rf"..:..:..  task {number} ui-pay: attempt 1 is over, agent_lost on farm-1 "
                    r"\(agent farm-1 was silent for \d+ s\); the task runs again\n",
                    _next(lines),
                )
                assert _next(lines).endswith(f"task {number} waits: there is no live agent\n")
                with _agent(server, 1, AGENT_NAME="farm-2", LABELS="a"):
                    assert lines.wait(30) == 0
                    assert lines.stdout is not None
                    assert f"task {number} ui-pay: succeeded after" in lines.stdout.read()


@contextmanager
def _piped(server: BenchServer, *words: str) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        [sys.executable, "-m", "client.cli", *words], env=_environ(server), text=True,
        stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        yield process
        process.kill()


def _next(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_top_shows_what_is_there_and_what_waits(server: BenchServer, tmp_path: Path) -> None:
    """Agents, slots, lanes that nobody can take; q is its end."""
    task = _Task(server, tmp_path, "top", "runs", "exit 0")
    waits = _dw(server, "submit", "--needs", "gpu", "--", "true").stdout.split()[1]
    with _watching(server, "top", "--every", "0.2s") as screen:
        shown = screen.until_text("1 of 4 taken")
        assert "none has these labels" in _line_of(shown, "gpu")
        assert re.search(r"farm-1 +alive +1/4", _line_of(shown, "farm-1"))
        screen.until_text("a second")
        task.end()
        screen.until_text("0 of 4 taken")
        screen.type(b"q")
        assert screen.wait() == 0
        assert screen.now_modes == screen.modes
    assert _dw(server, "cancel", waits).returncode == 0
