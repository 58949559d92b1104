"""Tasks run as they should: their output arrives byte by byte, their end is told as it was."""

import asyncio
import errno
import gc
import os
from pathlib import Path
from typing import Any

import pytest

from agent.output import Output
from agent.process import Process, SpawnError, start
from tests.agent.conftest import StartAgent, eventually
from tests.agent.fake_api import FakeApi


async def test_an_echo_arrives_whole(fake: FakeApi, start_agent: StartAgent, system: str) -> None:
    """The first thing that anyone tries."""
    task = fake.add("echo hello; echo trouble >&2")
    async with start_agent():
        result = await fake.result(task)
    assert (result.reason, result.exit_code, result.signal) == ("exit", 0, None)
    assert result.run_s is not None
    assert result.run_s > 0
    assert fake.log(task) == b"hello\n"
    assert fake.log(task, "stderr") == b"trouble\n"
    assert fake.sessions[0].agent == "tester"
    assert fake.sessions[0].slots == 2


@pytest.mark.parametrize(
    ("command", "output"),
    [
        (r"printf 'no newline'", b"no newline"),
        (r"printf 'a\0b\0\n'", b"a\0b\0\n"),
        (r"printf '\377\376 broken \303'", b"\xff\xfe broken \xc3"),
        ("true", b""),
        (r"printf '\r\n\r'", b"\r\n\r"),
    ],
)
async def test_bytes_arrive_as_they_were_written(
    fake: FakeApi, start_agent: StartAgent, command: str, output: bytes
) -> None:
    """Output is bytes: nothing is decoded, split or joined on the way."""
    task = fake.add(command)
    async with start_agent():
        await fake.result(task)
    assert fake.log(task) == output


async def test_a_line_of_20_megabytes_arrives(
    fake: FakeApi, start_agent: StartAgent, system: str
) -> None:
    """Nothing depends on there being newlines."""
    task = fake.add("head -c 20000000 /dev/zero | tr '\\0' x")
    async with start_agent():
        await fake.result(task)
    assert fake.log(task) == b"x" * 20_000_000
    sizes = [len(data) for data in fake.chunks[(task, 1), "stdout"].values()]
    assert max(sizes) == 524_288


async def test_marks_increase_over_both_streams(fake: FakeApi, start_agent: StartAgent) -> None:
    """Only so can two streams be merged again when they are read."""
    task = fake.add("for i in 1 2 3 4 5 6 7 8; do echo $i; echo $i >&2; done")
    async with start_agent():
        await fake.result(task)
    times = [time for chunk in fake.marks for _, time in chunk]
    assert len(times) == len(set(times))
    assert all(chunk == sorted(chunk) for chunk in fake.marks)


@pytest.mark.parametrize(
    ("command", "end"),
    [
        ("exit 7", ("exit", 7, None)),
        ("kill -KILL $$", ("signal", None, 9)),
        ("kill -SEGV $$", ("signal", None, 11)),
        ("no-such-command-here", ("exit", 127, None)),
    ],
)
async def test_the_end_is_told_as_it_was(
    fake: FakeApi,
    start_agent: StartAgent,
    system: str,
    command: str,
    end: tuple[str, int | None, int | None],
) -> None:
    """People read failures from this."""
    task = fake.add(command)
    async with start_agent():
        result = await fake.result(task)
    assert (result.reason, result.exit_code, result.signal) == end


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"command": "true", "env": {"BIG": "x" * 4_000_000}}, "Argument list too long"),
        ({"command": ": " + "x" * 131_070}, "Argument list too long"),
    ],
)
async def test_what_cannot_start_says_why(
    fake: FakeApi, start_agent: StartAgent, fields: dict[str, str], word: str
) -> None:
    """It blames the machine, not the task, and the agent goes on."""
    task = fake.add(**fields)
    other = fake.add("echo fine")
    async with start_agent():
        result = await fake.result(task)
        await fake.result(other)
    assert result.reason == "spawn_error"
    assert result.message is not None
    assert word in result.message


@pytest.mark.parametrize("cwd", ["missing", "file"])
async def test_a_folder_that_cannot_be_entered_is_the_tasks_fault(
    fake: FakeApi, start_agent: StartAgent, tmp_path: Path, cwd: str
) -> None:
    """It is the same on every machine: one that is blamed would be tried again elsewhere."""
    (tmp_path / "file").touch()
    task = fake.add("pwd", cwd=str(tmp_path / cwd))
    async with start_agent(slots=1) as worker:
        result = await fake.result(task)
        await fake.result(fake.add("true"))  # at once, in the same slot
        assert not worker._attempts.resting
    assert (result.reason, result.exit_code) == ("exit", 127)
    assert result.message is not None
    assert "cannot be entered" in result.message
    assert str(tmp_path / cwd) in result.message
    assert result.stdout is not None


async def test_a_slot_that_started_nothing_rests(fake: FakeApi, start_agent: StartAgent) -> None:
    """A broken machine is always free: without a rest it would run through the whole queue."""
    fake.add("true", env={"BIG": "x" * 4_000_000})
    async with start_agent(slots=1) as worker:
        await eventually(lambda: worker._attempts.resting == 1, "it rests")
        assert not any(worker._claims._wanted())
        assert not worker._attempts.running


async def test_a_machine_that_is_short_hands_back(
    fake: FakeApi,
    start_agent: StartAgent,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nothing counts against the task, one line tells people, and it goes on when it can."""
    monkeypatch.setattr("agent.unstarted._REST_FIRST_S", 0.001)
    failing = 3

    def start_later(*args: Any, **options: Any) -> Process:
        nonlocal failing
        failing -= 1
        if failing >= 0:
            raise SpawnError("too many open files", errno.EMFILE)
        return start(*args, **options)

    monkeypatch.setattr("agent.runner.start", start_later)
    task = fake.add("true")
    async with start_agent(slots=1):
        last = await fake.result(task, 4)
    assert [fake.results[task, number][0].reason for number in (1, 2, 3)] == ["returned"] * 3
    assert last.exit_code == 0
    assert sum("cannot start tasks now" in line for line in caplog.messages) == 1


async def test_the_environment_and_folder_of_a_task(
    fake: FakeApi, start_agent: StartAgent, tmp_path: Path
) -> None:
    """Each task has an empty folder of its own, gone afterwards, unless it names one."""
    task = fake.add(
        'echo "$DW_TASK_ID $DW_ATTEMPT $DW_AGENT $MINE"; pwd; ls -A; touch left; '
        "read x || echo eof",
        env={"MINE": "grüße"},
    )
    elsewhere = fake.add("pwd; touch kept", cwd=str(tmp_path))
    async with start_agent():
        await fake.result(task)
        await fake.result(elsewhere)
    said = fake.log(task).decode().splitlines()
    assert said[0] == f"{task} 1 tester grüße"
    assert Path(said[1]).parent == tmp_path / "work"
    assert said[2:] == ["eof"]
    assert fake.log(elsewhere).decode() == f"{tmp_path}\n"
    assert (tmp_path / "kept").exists()


async def test_a_used_folder_is_not_given_to_the_next_task(
    fake: FakeApi, start_agent: StartAgent
) -> None:
    """Folders that stayed empty are used again; nothing else may be found in one."""
    commands = ["true", "touch x", "mkdir -p a/b", "touch y && rm y", "chmod 500 .", "rmdir $PWD"]
    tasks = [fake.add(f"ls -A; stat -c %a . >&2; {command}") for command in commands * 3]
    async with start_agent(slots=1):
        for task in tasks:
            assert (await fake.result(task)).exit_code == 0
    assert {fake.log(task) for task in tasks} == {b""}
    assert len({fake.log(task, "stderr") for task in tasks}) == 1


async def test_a_timeout_ends_the_tree(
    fake: FakeApi, start_agent: StartAgent, system: str, tmp_path: Path
) -> None:
    """A background child in the same group must not go on, even if it ignores SIGTERM."""
    fifo = tmp_path / "alive"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    command = f"""
        (trap '' TERM; exec 1>{fifo} 2>&1; while :; do read -t 0.05 < /dev/zero || :; done) &
        echo started; wait"""
    task = fake.add(command, timeout=0.5)
    async with start_agent(kill_grace_s=0.5):
        result = await fake.result(task)
    assert (result.reason, result.signal) == ("timeout", 15)
    assert result.message == "did not end within 0.5 s"
    assert fake.log(task) == b"started\n"
    await _ended(reader)


async def test_after_sigterm_there_is_time_to_tidy_up(
    fake: FakeApi, start_agent: StartAgent, system: str, tmp_path: Path
) -> None:
    """Emulators and browsers want to be closed; the shell above them dies at once."""
    command = """
        bash -c 'trap "sleep 0.3; echo tidied > done; exit" TERM
                 echo ready; exec >/dev/null 2>&1; while :; do sleep 0.01; done' &
        wait"""
    task = fake.add(command, cwd=str(tmp_path))
    async with start_agent(flush_s=0.05):
        fake.flush_ms = 50
        await fake.until(lambda: fake.log(task) == b"ready\n")
        fake.cancelled.add((task, 1))
        fake.poke()
        result = await fake.result(task)
    assert result.reason == "cancelled"
    assert (tmp_path / "done").read_text() == "tidied\n"


async def test_a_left_behind_process_does_not_hold_the_task_open(
    fake: FakeApi, start_agent: StartAgent, system: str
) -> None:
    """A daemon that was started and forgotten inherits the pipe: waiting for it would not end."""
    task = fake.add("sleep 600 & echo started")
    async with start_agent(pipe_wait_s=0.3):
        result = await fake.result(task)
    assert (result.reason, result.exit_code) == ("exit", 0)
    assert result.message is not None
    assert "left behind" in result.message
    assert fake.log(task) == b"started\n"


async def test_a_process_that_left_the_group_does_not_hold_the_task_open(
    fake: FakeApi, start_agent: StartAgent, tmp_path: Path
) -> None:
    """It is out of reach of signals, but not able to keep a slot."""
    task = fake.add(f"setsid bash -c 'echo $$ > {tmp_path}/pid; exec sleep 600' & sleep 0.2")
    async with start_agent(pipe_wait_s=0.3):
        result = await fake.result(task)
    assert result.reason == "exit"
    os.kill(int((tmp_path / "pid").read_text()), 9)


async def test_output_of_a_running_task_is_flushed(
    fake: FakeApi, start_agent: StartAgent, tmp_path: Path
) -> None:
    """People watch; the API says how soon they want it."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    task = fake.add(f"echo early; read line < {gate}; echo $line")
    async with start_agent():
        await fake.until(lambda: bool(fake.owned))
        fake.flush_ms = 50
        fake.poke()
        await fake.until(lambda: fake.log(task) == b"early\n")
        gate.write_text("late\n")
        await fake.result(task)
    assert fake.log(task) == b"early\nlate\n"


async def test_what_both_streams_wrote_is_sent_together(
    fake: FakeApi, start_agent: StartAgent, tmp_path: Path
) -> None:
    """People watch both: their lines can be sorted only if they come in one report."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    task = fake.add(f"echo out; sleep 0.5; echo err >&2; read line < {gate}")
    fake.flush_ms = 1000
    async with start_agent():
        await fake.until(lambda: bool(fake.log(task, "stderr")))
        gate.write_text("end\n")
        await fake.result(task)
    reports = [body for what, body in fake.requests if what == "report" and body.chunks]
    assert [chunk.stream for chunk in reports[0].chunks] == ["stdout", "stderr"]


async def test_a_full_outbox_slows_the_child(fake: FakeApi, start_agent: StartAgent) -> None:
    """Memory is bounded and nothing is dropped: the writer waits on its pipe."""
    size = 30_000_000
    task = fake.add(f"openssl rand {size}")  # does not compress
    async with start_agent(buffer_bytes=4_000_000, spool_bytes=4_000_000) as worker:
        await fake.until(lambda: bool(fake.owned))
        fake.away = True
        await eventually(lambda: worker._outbox.memory.full, "the outbox is full")
        most = worker._outbox.memory.bytes
        fake.away = False
        fake.poke()
        result = await fake.result(task)
    assert most < 4_000_000 + 3 * 524_288
    assert result.stdout is not None
    assert len(fake.log(task)) == result.stdout.bytes == size


async def _ended(reader: int) -> None:
    """Await that nobody has the other end of a fifo open: a killed process takes a moment."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()

    def read() -> None:
        if not os.read(reader, 65536):
            ended.set()

    loop.add_reader(reader, read)
    try:
        async with asyncio.timeout(10):
            await ended.wait()
    finally:
        loop.remove_reader(reader)
        os.close(reader)


async def test_what_a_task_wrote_is_freed_when_it_has_ended(
    fake: FakeApi, start_agent: StartAgent
) -> None:
    """Without the collector, which looks too seldom to rely on: it may be megabytes."""
    async with start_agent():
        gc.collect()
        gc.disable()
        try:
            for _ in range(3):
                await fake.result(fake.add("echo out; echo err >&2"))
            await eventually(
                lambda: not any(isinstance(one, Process | Output) for one in gc.get_objects()),
                "nothing of ended tasks is left",
            )
        finally:
            gc.enable()
