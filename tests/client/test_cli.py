"""The `dw` command as people and programs meet it: a real process, its output, its exit code."""

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import msgspec
import pytest
from aiohttp import web

from client.cli import _COMMANDS
from client.cli import dw as group
from schema.logs import GroupNow, LogOver
from schema.tasks import Task
from tests.client.fake import Fake, event, output, problem, until
from tests.client.fake import ended as of_end


class Ended(NamedTuple):
    """A process that has ended."""

    code: int | None
    out: str
    err: str


async def _start(fake: Fake | None, *words: str, **env: str) -> asyncio.subprocess.Process:
    variables = {name: value for name, value in os.environ.items() if name != "TOKEN"}
    variables |= {"API_URL": fake.url if fake else "http://127.0.0.1:9", "PYTHONWARNINGS": "error"}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "client.cli",
        *words,
        env=variables | env,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def _dw(fake: Fake | None, *words: str, stdin: str = "", **env: str) -> Ended:
    process = await _start(fake, *words, **env)
    out, err = await process.communicate(stdin.encode())
    return Ended(process.returncode, out.decode(), err.decode())


async def test_help_is_quick_and_tells_the_exit_codes() -> None:
    """Neither aiohttp nor rich is imported for it."""
    ended = await _dw(None, "--help", PYTHONPROFILEIMPORTTIME="1")
    assert ended.code == 0
    assert "agent_lost" in ended.out
    modules = {line.rpartition("|")[2].strip() for line in ended.err.splitlines()}
    assert "click" in modules
    assert not modules & {"aiohttp", "rich", "msgspec", "asyncio"}


def test_summaries_are_those_of_the_commands() -> None:
    """They are written twice, so that `dw --help` need not import every command."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        assert command.name == name
        assert command.help is not None
        assert command.help.replace("\n", " ").startswith(_COMMANDS[name].rstrip("."))


async def test_every_command_tells_what_it_does_with_an_example() -> None:
    """Whoever asks for help wants to copy a line."""

    def all_below(command: click.Command, context: click.Context) -> Iterator[click.Context]:
        yield context
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                below = command.get_command(context, name)
                assert below is not None
                yield from all_below(below, click.Context(below, context, info_name=name))

    for context in all_below(group, click.Context(group, info_name="dw")):
        text = context.command.get_help(context)
        assert "Example" in text, context.command_path
        assert "--color" in text, context.command_path
        assert context.command.help, context.command_path


async def test_help_as_a_command() -> None:
    """Of dw with the exit codes, of a command, of one below it."""
    assert (await _dw(None, "help")).out == (await _dw(None, "--help")).out
    for words in (["submit"], ["agents", "drain"]):
        assert (await _dw(None, "help", *words)).out == (await _dw(None, *words, "-h")).out


async def test_submit_one(fake: Fake) -> None:
    """Several words are quoted; one is a shell line."""
    ended = await _dw(fake, "submit", "--name", "n", "--", "echo", "a b")
    assert ended == (0, "task 1\n", "")
    assert (await _dw(fake, "submit", "echo a | wc")).out == "task 2\n"
    assert [task.command for task in fake.tasks.values()] == ["echo 'a b'", "echo a | wc"]


async def test_a_submissions_options_are_its_fields(fake: Fake) -> None:
    """Durations as people write them; `show` tells them again."""
    options = ["--timeout", "1h30m", "--no-output-timeout", "60s", "--image", "python:3.12"]
    assert (await _dw(fake, "submit", *options, "true")).code == 0
    assert (fake.tasks[1].timeout, fake.tasks[1].no_output_timeout) == (5400, 60)
    shown = (await _dw(fake, "show", "1")).out
    assert "timeout    1h30m" in shown
    assert "image      python:3.12" in shown
    assert (await _dw(fake, "submit", "--isolation", "bwrap", "true")).code == 0
    assert fake.tasks[2].isolation == "bwrap"
    assert "isolation  bwrap" in (await _dw(fake, "show", "2")).out
    assert "no output  at most 1m00s" in shown


async def test_secrets_come_from_here_from_a_file_or_from_stdin(fake: Fake, tmp_path: Path) -> None:
    """Never from the command line, which is in the shell's history and in the list of processes."""
    key, token = tmp_path / "key.pem", tmp_path / "token"
    key.write_text("first line\nsecond line\n")
    token.write_text("token-in-a-file\n")
    words = ["--secret", "HERE", "--secret", f"KEY=@{key}", "--secret", f"FILE=@{token}"]
    ended = await _dw(
        fake, "submit", *words, "--secret", "IN=-", "true", stdin="typed-secret\n", HERE="of-here"
    )
    assert ended == (0, "task 1\n", "")
    assert fake.secrets == {
        "HERE": "of-here", "KEY": "first line\nsecond line\n", "FILE": "token-in-a-file",
        "IN": "typed-secret",
    }  # fmt: skip
    shown = (await _dw(fake, "show", "1")).out
    assert [line.split() for line in shown.splitlines() if "secret" in line] == [
        ["secret", name] for name in ("HERE", "KEY", "FILE", "IN")
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--secret", "A=hunter2"], "A=@FILE"),
        (["--secret", "NOWHERE_SET"], "no such variable here"),
        (["--secret", "A=@/nowhere/at/all"], "No such file"),
        (["--secret", "=x"], "has no name"),
        (["--secret", "A=-", "--file", "-"], "stdin can be read only once"),
    ],
)
async def test_a_secret_on_the_command_line_is_refused_and_not_repeated(
    words: list[str], said: str
) -> None:
    """The error says how to do it."""
    command = [] if "--file" in words else ["true"]
    ended = await _dw(None, "submit", *words, *command, stdin="true\n")
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err
    assert "hunter2" not in ended.err


async def test_submit_many_from_stdin(fake: Fake) -> None:
    """They are given a group, to be found again; the same key gives the same tasks."""
    lines = 'true\n# no\n{"command": "false"}\n'
    first = await _dw(fake, "submit", "--file", "-", "--key", "k", stdin=lines)
    assert first == (0, "tasks 1-2 in group k\n", "")
    again = await _dw(fake, "submit", "--file", "-", "--key", "k", stdin=lines)
    assert again.out == "tasks 1-2 in group k (all were there already)\n"


async def test_submit_json(fake: Fake) -> None:
    """One object a line."""
    ended = await _dw(fake, "submit", "--json", "true")
    assert msgspec.json.decode(ended.out) == {"id": 1, "status": "pending", "created": True}


@pytest.mark.parametrize(
    ("words", "stdin", "said"),
    [
        (["submit"], "", "either a command or --file"),
        (["submit", "--file", "-"], "true\n{\n", "line 2"),
        (["submit", "--timeout", "soon", "true"], "", "not a duration"),
        (["submit", "--follow", "--file", "-"], "a\nb\n", "--follow takes one task"),
        (["wait"], "", "name tasks or a group"),
        (["agents", "drain"], "", "Missing argument"),
        (["agents", "drain", "--at-most", "5s", "x"], "", "add --wait"),
        (["agents", "--json", "drain", "x"], "", "options come after"),
        (["logs", "-f", "--grep", "x", "1"], "", "with --tail"),
        (["logs", "-f", "--attempt", "2", "1"], "", "with --tail"),
        (["logs"], "", "name a task or a group"),
        (["logs", "--group", "g", "1"], "", "name a task or a group"),
        (["logs", "--group", "g", "--line", "3"], "", "with --attempt or --line"),
        (["explain"], "", "name a task"),
        (["show", "x"], "", "'x' is not a task's number"),
        (["show", "0"], "", "'0' is not a task's number"),
        (["show", "nightly"], "", "(if it is a group: dw group NAME)"),
        (["wait", "nightly"], "", "(if it is a group: dw wait --group NAME)"),
        (["show", str(2**63)], "", "is not a task's number"),
        (["retry", "--failed", "1"], "", "need --group"),
        (["watch"], "", "Missing argument"),
        (["group"], "", "Missing argument"),
        (["logs", "--json", "--group", "g"], "", "needs -f"),
        (["completion", "tcsh"], "", "is not one of"),
        (["help", "explode"], "", "there is no command 'explode'"),
        (["explode"], "", "No such command 'explode'.\n"),
        (["wach"], "", "No such command 'wach'. Did you mean watch?"),
    ],
)
async def test_wrong_usage(words: list[str], stdin: str, said: str) -> None:
    """Exit code 2, the reason on stderr, and nothing asked of any server."""
    ended = await _dw(None, *words, stdin=stdin)
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err


@pytest.mark.parametrize("words", [[b"echo \xff"], [b"--env", b"A=\xff", b"true"]])
async def test_only_text_can_be_sent(words: list[bytes]) -> None:
    """A command line is bytes; what is no UTF-8 is told, not a traceback."""
    ended = await _dw(None, "submit", *map(os.fsdecode, words))
    assert ended.code == 2
    assert "UTF-8" in ended.err


async def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    """Told before anything is submitted."""
    file = tmp_path / "tasks"
    file.write_bytes(b"true\n\xff\n")
    ended = await _dw(None, "submit", "--file", str(file))
    assert ended.code == 2
    assert "not UTF-8" in ended.err


async def test_no_server() -> None:
    """It says what to do about it."""
    ended = await _dw(None, "ls")
    assert ended.code == 5
    assert "cannot reach http://127.0.0.1:9 (connection refused): is `just serve`" in ended.err
    assert "API_URL names the server" in ended.err


async def test_an_address_that_is_none_is_told_at_once() -> None:
    """It gets no better by trying again."""
    for url in ("ftp://lab", "http://lab:port"):
        ended = await _dw(None, "ls", API_URL=url)
        assert ended == (2, "", f"dw: {url} is not the address of a server: is API_URL right?\n")


async def test_no_token_or_the_wrong_one(fake: Fake) -> None:
    """Three faults with three cures: none was sent, one that is unknown, one of another role."""

    def refuse(status: int) -> None:
        async def answer(_: web.Request) -> web.Response:
            return problem(status, "Denied", "this needs a token with the role read")

        fake.faults.append(answer)

    for status, token, cure in (
        (401, "", "TOKEN is not set; an admin makes one: dw token new"),
        (401, "x", "is TOKEN valid there?"),
        (403, "x", "ask an admin for a token of that role"),
    ):
        refuse(status)
        ended = await _dw(fake, "ls", TOKEN=token)
        assert ended.code == 2
        assert ended.err.startswith("dw: this needs a token with the role read: ")
        assert cure in ended.err


async def test_unknown_tasks(fake: Fake) -> None:
    """One unknown id does not keep the others from being shown."""
    fake.add(name="known")
    ended = await _dw(fake, "show", "9", "1")
    assert ended.code == 2
    assert ended.err == "dw: there is no task 9; the newest is 1\n"
    assert "known" in ended.out
    for words in (["logs", "9"], ["logs", "-f", "9"], ["wait", "9"]):
        assert await _dw(fake, *words) == (2, "", "dw: there is no task 9; the newest is 1\n")
    ended = await _dw(fake, "wait", "9", "8")
    assert ended.err == "dw: there are no tasks 8, 9; the newest is 1\n"


async def test_of_what_is_missing_in_a_task_that_is_there_the_newest_task_is_not_told(
    fake: Fake,
) -> None:
    """It would read as if that was the newest attempt."""
    fake.add()

    async def answer(_: web.Request) -> web.Response:
        return problem(404, "Not Found", "there is no attempt 4 of task 1")

    fake.faults.append(answer)
    ended = await _dw(fake, "logs", "1", "--attempt", "4")
    assert ended == (2, "", "dw: there is no attempt 4 of task 1\n")


@pytest.mark.parametrize(
    "words",
    [["group"], ["watch"], ["wait", "-g"], ["cancel", "-g"], ["retry", "-g"], ["logs", "-fg"]],
)
async def test_an_unknown_group_names_what_is_near(fake: Fake, words: list[str]) -> None:
    """Names of groups are long, and end in dates."""
    assert (await _dw(fake, *words, "x")).err.endswith("; there are no groups yet\n")
    for name in ("nightly-2026-11-23", "smoke", "nightly-2026-11-24"):
        fake.add(group=name)
    ended = await _dw(fake, *words, "nigthly-2026-11-24")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        "dw: there is no group 'nigthly-2026-11-24'; "
        "did you mean nightly-2026-11-24 or nightly-2026-11-23?\n"
    )
    ended = await _dw(fake, *words, "zzz")
    assert ended.err.endswith("; the newest group is nightly-2026-11-24\n")


async def test_a_wait_shows_what_failed(fake: Fake) -> None:
    """The exit code is that of the worst."""
    fake.add(group="g", status="succeeded")
    cause = "agent farm-3 was silent for 63 s"
    fake.add(
        group="g", status="failed", reason="agent_lost", name="lost one", message=cause, attempt=1
    )
    fake.add(group="g", status="cancelled")
    ended = await _dw(fake, "wait", "--group", "g")
    assert ended.code == 3
    assert f"task 2 failed (agent_lost)  lost one: {cause}" in ended.out
    assert "1 succeeded, 1 failed because of machines, 1 cancelled in 1m30s" in ended.out
    assert "dw logs 2" in ended.err
    assert await _dw(fake, "wait", "1") == (0, "1 succeeded in 0.00 s\n", "")
    assert (await _dw(fake, "wait", "1", "7")).code == 2
    fake.add()
    assert (await _dw(fake, "wait", "4", "--at-most", "0.01s")).code == 6


async def test_a_wait_for_programs(fake: Fake) -> None:
    """Every task, one a line."""
    fake.add(status="succeeded")
    fake.add(status="failed", reason="exit", exit_code=1)
    ended = await _dw(fake, "wait", "1", "2", "--json")
    tasks = [msgspec.json.decode(line, type=Task) for line in ended.out.splitlines()]
    assert {task.id for task in tasks} == {1, 2}
    assert ended.code == 1


async def test_follow_ends_like_the_command(fake: Fake) -> None:
    """Each stream to its own, bytes as they are, and the exit code of the task."""

    def act(_: web.Request) -> None:
        if len(fake.seen) == 3:
            fake.log(1, "stdout", b"out")
            fake.log(1, "stderr", b"err")
            fake.change(1, status="failed", reason="exit", exit_code=7, attempt=1)

    fake.on_request = act
    ended = await _dw(fake, "submit", "--follow", "x")
    assert ended == (7, "out", "task 1\nerrdw: task 1 failed (exit 7)\n")


async def test_logs_tell_that_they_are_not_whole(fake: Fake) -> None:
    """What is there goes to stdout; missing bytes are exit code 3."""
    fake.add(status="failed", attempt=1)
    fake.log(1, "stdout", b"a\nb\n")
    assert await _dw(fake, "logs", "1", "--tail", "1") == (0, "b\n", "")
    fake.log_state = "missing"
    ended = await _dw(fake, "logs", "1")
    assert (ended.code, ended.out) == (3, "a\nb\n")
    assert ended.err == "dw: bytes of this log never arrived: dw show 1 says which\n"
    assert (await _dw(fake, "logs", "-f", "1")).code == 3


async def test_of_a_task_that_never_ran_no_log_is_awaited(fake: Fake) -> None:
    """It may not grow, or not yet: nothing to follow."""
    fake.log_state = "open"
    fake.add(status="cancelled")
    fake.add()
    told = "dw: task 1 was cancelled before it started: it has no log\n"
    assert await _dw(fake, "logs", "1") == (0, "", told)
    told = "dw: task 2 has not started: dw explain 2 tells why\n"
    assert await _dw(fake, "logs", "2") == (0, "", told)
    fake.change(2, status="in_progress", attempt=1)
    told = "dw: this log may still grow: dw logs -f 2\n"
    assert await _dw(fake, "logs", "2") == (0, "", told)


async def test_what_was_only_cancelled_is_run_again_as_such(fake: Fake) -> None:
    """What is offered must do something, and what never ran has no log to read."""
    fake.add(group="g", status="cancelled")
    over = GroupNow(name="g", total=1, counts={"cancelled": 1})
    fake.scripts = [[event("group", over), event("done", over, "1")]]
    ended = await _dw(fake, "watch", "g")
    again = "dw: run them again with: dw retry --group g --cancelled\n"
    assert (ended.code, ended.err) == (4, again)
    assert (await _dw(fake, "wait", "--group", "g")).err == ""


async def test_a_damaged_log_is_told(fake: Fake) -> None:
    """What is stored is not what the task wrote: nobody may take it for that."""
    fake.add(status="succeeded", reason="exit", exit_code=0, attempt=1)
    fake.log(1, "stdout", b"a\n")
    fake.log_state = "damaged"
    told = "dw: this log is not what the task wrote: dw show 1 says more\n"
    assert await _dw(fake, "logs", "1") == (3, "a\n", told)
    assert await _dw(fake, "logs", "-f", "1") == (3, "a\n", told)
    assert "stdout     damaged, 2 B, 1 line; not the bytes" in (await _dw(fake, "show", "1")).out


async def test_logs_are_searched(fake: Fake) -> None:
    """By the server; of a task, or of all of a group."""
    fake.add(status="succeeded", attempt=1)
    fake.log(1, "stdout", b"one\ntwo\nthree\n")
    assert (await _dw(fake, "logs", "1", "--grep", "t")).out == "two\nthree\n"
    words = ["--grep", "a*b", "--wildcards", "-i", "-n", "--line", "2", "--timestamps", "iso"]
    await _dw(fake, "logs", "1", *words)
    query = "line=2&grep=a*b&timestamps=iso&wildcards=true&ignore_case=true&numbers=true"
    assert query in fake.seen[-1]
    ended = await _dw(fake, "logs", "--group", "g h", "--grep", "x", "--tail", "3")
    assert ended.out == "g h grep=x tail=3\n"


async def test_a_group_is_followed_with_a_prefix_for_each_task(fake: Fake) -> None:
    """Each stream to its own; who failed is said; a log with holes is exit code 3."""
    task = fake.add(status="failed", reason="exit", exit_code=3, attempt=1)
    fake.scripts = [
        [
            output(1, 1, "stdout", b"out\n", 0, "1"),
            output(1, 1, "stderr", b"err\n", 0, "2"),
            event("log", LogOver(task=1, attempt=1, state="missing"), "3"),
            event("end", of_end(task), "4"),
            event("done", GroupNow(name="g", total=1, counts={"failed": 1}), "5"),
        ]
    ]
    ended = await _dw(fake, "logs", "-f", "--group", "g")
    assert (ended.code, ended.out) == (3, "1 | out\n")
    assert ended.err.splitlines() == [
        "1 | err",
        "dw: bytes of this log never arrived: dw show 1 says which",
        "dw: task 1 failed (exit 3)",
    ]
    assert (await _dw(fake, "logs", "-f", "--group", "nobody")).code == 2


async def test_explain(fake: Fake) -> None:
    """A sentence, or an object."""
    fake.add(status="succeeded")
    assert (await _dw(fake, "explain", "1")).out == "task 1: It is over.\n"
    explained = msgspec.json.decode((await _dw(fake, "explain", "1", "--json")).out)
    assert explained["reasons"][0]["kind"] == "ended"
    assert (await _dw(fake, "explain", "7")).code == 2


async def test_a_reader_that_stops_early_is_no_error(fake: Fake) -> None:
    """`dw logs 1 | head` says nothing."""
    fake.add(status="succeeded", attempt=1)
    fake.log(1, "stdout", b"x" * 5_000_000)
    process = await _start(fake, "logs", "1")
    assert process.stdout is not None
    assert process.stderr is not None
    await process.stdout.readexactly(10)
    process.stdout._transport.close()  # type: ignore[attr-defined] # there is no other way
    assert await process.stderr.read() == b""
    assert await process.wait() == 141


async def test_an_interrupted_wait_says_how_to_go_on(fake: Fake) -> None:
    """The tasks run on; their ids must not be lost with the terminal."""
    process = await _start(fake, "submit", "--wait", "true")
    await until(lambda: fake.count("GET /") > 1, lambda: fake.seen)
    process.send_signal(2)
    out, err = await process.communicate()
    assert out == b"task 1\n"
    assert err.strip() == b"dw: task 1 will keep running: dw wait 1, dw cancel 1"
    assert process.returncode == 130


async def test_cancel_and_retry(fake: Fake) -> None:
    """Each says what became of each task."""
    fake.add()
    fake.add(status="in_progress", agent="farm-3", attempt=1)
    fake.add(status="failed", reason="exit", exit_code=3, attempt=2, group="g")
    ended = await _dw(fake, "cancel", "1", "2", "3")
    assert ended.out.splitlines() == [
        "task 1 cancelled",
        "task 2 is being ended by farm-3",
        "task 3 had ended: failed (exit 3)",
    ]
    assert (await _dw(fake, "retry", "3")).out == "task 3 pending, after attempt 2\n"
    fake.change(3, status="failed")
    fake.add(status="cancelled", group="g")
    assert (await _dw(fake, "retry", "--group", "g")).out == "group g: 1 task will run again\n"
    ended = await _dw(fake, "retry", "--group", "g", "--failed")
    assert ended == (0, "group g: no task has failed\n", "")
    ended = await _dw(fake, "retry", "--group", "g", "--failed", "--cancelled", "--json")
    assert ended.out == '{"name":"g","retried":1}\n'
    ended = await _dw(fake, "cancel", "--group", "g")
    assert ended == (0, "group g: 2 cancelled\n", "")
    assert (await _dw(fake, "cancel", "--group", "g")).out == "group g: all its tasks had ended\n"
    fake.add(status="in_progress", group="g")
    ended = await _dw(fake, "cancel", "--group", "g")
    assert ended.out == "group g: 1 is being ended\n"


async def test_lists_fit_a_narrow_terminal_and_are_whole_in_a_pipe(fake: Fake) -> None:
    """A table is cut to the screen, never for a program; and no task drives the terminal."""
    fake.add(command="echo \x1b[31m" + "long " * 40, status="failed", reason="exit", exit_code=3)
    narrow = await _dw(fake, "ls", COLUMNS="80")
    assert max(map(len, narrow.out.splitlines())) <= 80
    assert "failed (exit 3)" in narrow.out
    fake.add(status="succeeded", group="g", agent="farm-with-a-name", command="make " * 20)
    fake.add_agent("farm-with-a-name", labels=("os=android-15", "wall=3"))
    for words in (["ls"], ["agents"], ["group", "g"], ["top"]):
        narrow = await _dw(fake, *words, COLUMNS="40")
        assert max(map(len, narrow.out.splitlines())) <= 40, narrow.out
        whole = {"ls": "succeeded        make", "agents": "farm-with-a-name  alive"}
        assert whole.get(words[0], "") in narrow.out
    wide = await _dw(fake, "ls")
    assert ("long " * 40).strip() in wide.out
    assert "\x1b" not in wide.out + narrow.out


async def test_ls_tells_failed_machines_from_failed_tasks(fake: Fake) -> None:
    """Whoever lists what failed must not look for bugs in tests that never ran to their end."""
    fake.add(status="failed", reason="exit", exit_code=3)
    fake.add(status="failed", reason="agent_lost")
    fake.add(status="failed", reason="spawn_error")
    fake.add(status="failed", reason="exit")  # a legacy agent tells no code
    ended = await _dw(fake, "ls", "--status", "failed")
    states = [line.split("  ")[1].strip() for line in ended.out.splitlines()[1:]]
    wanted = ["failed", "failed (spawn_error)", "failed (agent_lost)", "failed (exit 3)"]
    assert states == wanted
    assert ended.err.startswith("dw: 2 of these failed because of machines, not by themselves")


async def test_ls_reads_pages_and_says_that_there_are_more(fake: Fake) -> None:
    """Newest first."""
    for _ in range(5):
        fake.add()
    ended = await _dw(fake, "ls", "-n", "3", "--json")
    ids = [msgspec.json.decode(line, type=Task).id for line in ended.out.splitlines()]
    assert ids == [5, 4, 3]
    assert (await _dw(fake, "ls", "-n", "3")).err == "dw: there are more: dw ls -n 15\n"
    assert (await _dw(fake, "ls", "--name", "x")).err == "dw: no such tasks\n"
    fake.add(group="nightly")
    ended = await _dw(fake, "ls", "--group", "nightly", "--status", "failed")
    assert ended == (0, "", "dw: no such tasks\n")
    ended = await _dw(fake, "ls", "--group", "nigthly")
    assert ended == (2, "", "dw: there is no group 'nigthly'; did you mean nightly?\n")


async def test_agents(fake: Fake) -> None:
    """What they offer is what needs are written from."""
    assert (await _dw(fake, "agents")).err == "dw: no agents: start one with `just agent 16`\n"
    fake.add_agent("farm-3", labels=("os=android-15",), running=3)
    out = (await _dw(fake, "agents")).out
    assert "farm-3" in out
    assert "os=android-15" in out
    assert "alive" in out
    assert (await _dw(fake, "agents", "drain", "farm-3")).code == 0
    assert "draining" in (await _dw(fake, "agents")).out


async def test_draining_an_agent(fake: Fake) -> None:
    """It is asked to; with --wait, until it has ended, and no longer than --at-most."""
    fake.add_agent("lab/3", running=1)
    asked = "agent lab/3 will exit when it has finished its tasks\n"
    assert await _dw(fake, "agents", "drain", "lab/3") == (0, asked, "")
    assert (await _dw(fake, "agents", "drain", "lab/3", "--json")).out == '{"agents":1}\n'
    ended = await _dw(fake, "agents", "drain", "lab/3", "--wait", "--at-most", "0.01s")
    assert (ended.code, ended.out) == (6, asked)
    assert "lab/3 still runs 1 task" in ended.err
    assert "1 agent has not ended yet" in ended.err

    def end(request: web.Request) -> None:
        if request.path == "/agents":
            fake.agents.clear()
            fake.add_agent("lab/3")  # started again: it drains not, and nobody waits for it

    fake.on_request = end
    ended = await _dw(fake, "agents", "drain", "lab/3", "--wait")
    assert ended == (0, f"{asked}agent lab/3 has ended\n", "")


async def test_draining_nobody(fake: Fake) -> None:
    """A typo is told."""
    ended = await _dw(fake, "agents", "drain", "nobody")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "dw: there is no live agent 'nobody'; there are no agents\n"
    fake.add_agent("farm-3")
    ended = await _dw(fake, "agents", "drain", "fram-3")
    assert ended.err == "dw: there is no live agent 'fram-3'; did you mean farm-3?\n"


async def test_a_group_shows_failures_before_what_was_slow(fake: Fake) -> None:
    """With why, and the last lines that they wrote: that is what people open it for."""
    fake.add(group="g", status="succeeded", name="quick", run_s=0.5, attempt=1)
    fake.add(group="g", status="succeeded", name="slow", run_s=80.0, agent="farm-1", attempt=1)
    fake.add(
        group="g", status="failed", reason="exit", exit_code=3, name="bad", run_s=2.0, attempt=1
    )
    cause = "agent farm-3 was silent for 63 s"
    fake.add(group="g", status="failed", reason="agent_lost", name="lost", message=cause)
    fake.log(3, "stdout", b"one\ntwo\nthree\n\x1b[31mAssertionError: \x1b]0;title\x07no\n")
    ended = await _dw(fake, "group", "g")
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert lines[:2] == [
        "group g  ended after 1m30s",
        "4 tasks: 1 failed, 1 failed because of machines, 2 succeeded",
    ]
    text = "\n".join(lines)
    assert f"failed (agent_lost)  lost\n          {cause}" in text
    assert "failed (exit 3)     bad after 2.00 s" in text
    assert "│ two\n          │ three\n          │ AssertionError: no" in text
    assert text.index("not succeeded") < text.index("slowest") < text.index("slow  on farm-1")
    assert "\x1b" not in text
    report = msgspec.json.decode((await _dw(fake, "group", "g", "--json")).out)
    assert report["group"]["total"] == 4
    assert [task["id"] for task in report["failures"]] == [4, 3]


async def test_a_group_too_large_to_follow_is_watched_all_the_same(fake: Fake) -> None:
    """The server follows ten thousand tasks at most: beyond that, it is asked now and then."""
    fake.too_many = True
    fake.add(group="g", status="in_progress", name="runs", agent="farm-1", attempt=1)
    fake.add(group="g", status="failed", name="bad", reason="agent_lost", attempt=1)

    def end(_: web.Request) -> None:
        if fake.count("GET /groups/g") > 3:
            fake.change(1, status="succeeded", run_s=1.0)

    fake.on_request = end
    ended = await _dw(fake, "watch", "g")
    assert ended.code == 3
    lines = [line[10:] for line in ended.out.splitlines()]
    assert lines[:4] == [
        "group g: 2 tasks, 1 ended",
        "task 1 runs: runs on farm-1",
        "task 2 bad: failed (agent_lost)",
        "task 1 runs: succeeded after 1.00 s",
    ]
    assert "2 tasks: 1 failed because of machines, 1 succeeded" in ended.out
    assert ended.err == (
        "dw: read a log with: dw logs 2; run them again with: dw retry --group g\n"
    )


async def test_top_for_programs_and_pipes(fake: Fake) -> None:
    """Once: what is there, what waits and for whom, how fast it goes."""
    fake.add(needs=("gpu",))
    fake.add_agent("farm-3", labels=("os=linux",), running=3, slots=4)
    ended = await _dw(fake, "top")
    assert ended.code == 0
    assert "slots   3 of 4 taken" in ended.out
    assert "tasks   0 running, 1 pending, 0 scheduled" in ended.out
    assert "none has these labels" in ended.out
    assert "farm-3" in ended.out
    look = msgspec.json.decode((await _dw(fake, "top", "--json")).out)
    assert look["rates"]["submitted"] == pytest.approx(2 * look["rates"]["ended"])
    assert look["queue"]["lanes"][0]["needs"] == ["gpu"]
    fake.add_agent("farm-4", labels=("gpu", "os=linux"), slots=2)
    assert "1, with 2 free slots" in (await _dw(fake, "top")).out


async def test_top_tells_what_an_agent_claimed_ahead_from_what_its_slots_run(fake: Fake) -> None:
    """20 of 16 slots would look like a fault."""
    fake.add_agent("farm-3", running=20, slots=16)
    ended = await _dw(fake, "top")
    assert "slots   16 of 16 taken" in ended.out
    assert " 16/16 +4 " in ended.out
    assert "20/16" not in ended.out


async def test_lines_for_programs(fake: Fake) -> None:
    """Each with its number and stream, page after page; following, what happens."""
    fake.add(status="succeeded", attempt=1)
    fake.log(1, "stdout", b"".join(b"line %d\n" % number for number in range(1, 9)))
    ended = await _dw(fake, "logs", "1", "--json")
    lines = [msgspec.json.decode(line) for line in ended.out.splitlines()]
    assert [(line["line"], line["text"]) for line in lines] == [
        (number, f"line {number}") for number in range(1, 9)
    ]
    ended = await _dw(fake, "logs", "1", "--json", "--tail", "2")
    assert ended.out.count("\n") == 2
    ended = await _dw(fake, "logs", "-f", "1", "--json")
    events = [msgspec.json.decode(line)["event"] for line in ended.out.splitlines()]
    assert events == ["status", "attempt", "output", "log", "end"]


@pytest.mark.parametrize(
    ("words", "env", "coloured"),
    [
        (["ls"], {}, False),
        (["--color", "always", "ls"], {}, True),
        (["ls", "--color=always"], {}, True),
        (["ls", "--color=always"], {"NO_COLOR": "1"}, True),
        (["agents", "--color=always"], {}, True),
        (["ls", "--color=never"], {}, False),
    ],
)
async def test_colours_as_people_ask_for_them(
    fake: Fake, words: list[str], env: dict[str, str], coloured: bool
) -> None:
    """Before the command or behind it; what is said wins over the environment."""
    fake.add(status="failed", reason="exit", exit_code=3)
    fake.add_agent("farm-3")
    ended = await _dw(fake, *words, **env)
    assert ended.code == 0
    assert ("\x1b[" in ended.out) == coloured
