"""Tasks in a sandbox: what they cannot do, and that all else is as ever. By the real bwrap."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from aiohttp import web

from schema.reports import Result
from tests.agent.conftest import StartAgent, eventually, runs
from tests.agent.fake_api import FakeApi
from tests.agent.test_ending import RunAgent


def _why_not() -> str | None:
    if shutil.which("bwrap") is None:
        return "bwrap is missing: install bubblewrap"
    argv = ["bwrap", "--unshare-pid", "--ro-bind", "/", "/", "--proc", "/proc", "true"]
    tried = subprocess.run(argv, check=False, capture_output=True, text=True)
    return f"bwrap does not work here: {tried.stderr.strip()}" if tried.returncode else None


_MISSING = _why_not()
pytestmark = pytest.mark.skipif(_MISSING is not None, reason=_MISSING or "")


async def _said(fake: FakeApi, start_agent: StartAgent, command: str, **settings: Any) -> str:
    """What a sandboxed command writes."""
    task = fake.add(command)
    async with start_agent(isolation="bwrap", **settings):
        await fake.result(task)
    return (fake.log(task) + fake.log(task, "stderr")).decode()


# What it keeps in


async def test_the_agents_home_is_not_there(
    fake: FakeApi, start_agent: StartAgent, tmp_path: Path
) -> None:
    """Keys, source code, browser profiles, and the state folder with its spool."""
    (tmp_path / "secret").write_text("s3cret")
    home = Path.home()
    names = {path.name for path in Path("/").iterdir()}
    command = f"""
        ls -A {home} {tmp_path} {Path.cwd()}; cat {tmp_path}/secret; ls -A /home /root /srv /mnt
        ls -A / | tr '\\n' ' '; echo; echo ~; ls -A ~; ls -A /run /var; ls -A /tmp"""
    said = await _said(fake, start_agent, command)
    assert "s3cret" not in said
    assert said.count("No such file or directory") >= 4
    system = {"usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc"}
    own = {"proc", "dev", "run", "var", "tmp", "work"}
    (line,) = [line for line in said.splitlines() if "work" in line.split() and "etc" in line]
    assert set(line.split()) <= system | own
    assert names - system - own, "the machine has more than that"


async def test_the_agents_processes_are_not_there(fake: FakeApi, start_agent: StartAgent) -> None:
    """So /proc/…/environ, where the token is, cannot be named; nor can anybody be signalled.

    Signal 0 asks only. A real one would reach the whole machine when the sandbox is broken.
    """
    me = os.getpid()
    command = f"""
        echo pids: $(ls /proc | grep '^[0-9]'); cat /proc/{me}/environ; ls -l /proc/{me}/root
        kill -0 {me} || echo nobody
        grep -il s3cret-t0ken /proc/[0-9]*/environ /proc/[0-9]*/cmdline"""
    said = await _said(fake, start_agent, command, token="s3cret-t0ken")
    (line,) = [line for line in said.splitlines() if line.startswith("pids:")]
    assert all(int(pid) < 30 for pid in line.split()[1:])
    assert "s3cret" not in said
    assert "nobody\n" in said
    assert f"/proc/{me}/environ: No such file" in said


@pytest.mark.parametrize("isolation", ["none", "bwrap"])
async def test_the_agents_token_is_out_of_reach(
    fake: FakeApi, run_agent: RunAgent, isolation: str
) -> None:
    """Without a sandbox a task finds it in the environment that the agent was started with."""
    task = fake.add("cat /proc/[0-9]*/environ | tr '\\0' '\\n' | grep -c ^TOKEN=s3cret-t0ken-")
    async with run_agent("1", ISOLATION=isolation, TOKEN=f"s3cret-t0ken-{os.getpid()}") as agent:
        await fake.result(task)
        agent.process.terminate()
        assert await agent.ends() == 0
    assert (int(fake.log(task)) > 0) is (isolation == "none")


async def test_another_process_cannot_be_traced_or_looked_into(
    fake: FakeApi, start_agent: StartAgent
) -> None:
    """By numbers of the machine: in its own namespace they are nobody's."""
    code = f"""
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
print(libc.ptrace(16, {os.getpid()}, 0, 0), os.strerror(ctypes.get_errno()))
try:
    os.pidfd_open({os.getpid()})
except OSError as error:
    print(error)
"""
    python = shutil.which("python3", path="/usr/bin:/bin")
    if python is None:
        pytest.skip("no python3 of the system to call ptrace with")
    said = await _said(fake, start_agent, f"{python} - <<'END'\n{code}\nEND")
    assert said.count("No such process") == 2


async def test_nothing_outside_its_folder_can_be_written(
    fake: FakeApi, start_agent: StartAgent
) -> None:
    """The system is read-only, and what can be written is gone afterwards.

    What is there already is only opened: were the sandbox broken, this is the machine's own.
    """
    command = """
        for place in / /usr /etc /usr/bin /lib /proc /work /tmp /var/tmp /var /run ..; do
            if (: > "$place/dw-test") 2>/dev/null; then echo "can: $place"; fi
        done
        for file in /etc/passwd /usr/bin/env /proc/sys/kernel/core_pattern /proc/sysrq-trigger; do
            if (: >> $file) 2>/dev/null; then echo "can: $file"; fi
        done
        find /proc -path '/proc/[0-9]*' -prune -o -type f -writable -printf 'can: %p\\n'
        grep -E '^(Cap(Inh|Prm|Eff|Amb)|NoNewPrivs):' /proc/self/status"""
    said = await _said(fake, start_agent, command)
    wrote = {line.split()[1] for line in said.splitlines() if line.startswith("can:")}
    assert wrote == {"/work", "/tmp", "/var/tmp"}
    rights = dict(line.split() for line in said.splitlines() if ":\t" in line)
    assert rights.pop("NoNewPrivs:") == "1"
    assert {int(value, 16) for value in rights.values()} == {0}
    assert not Path("/tmp/dw-test").exists()


@pytest.fixture
async def listening() -> AsyncIterator[int]:
    """Listen on a port of the loopback."""

    async def hello(request: web.Request) -> web.Response:
        return web.Response(text="hello from outside")

    app = web.Application()
    app.router.add_get("/", hello)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


@pytest.mark.parametrize("network", ["host", "none"])
async def test_the_network_is_there_or_not(
    fake: FakeApi, start_agent: StartAgent, listening: int, network: str
) -> None:
    """Also the machine's own loopback, and abstract sockets, on which desktops listen."""
    name = f"dw-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(f"\0{name}")
        abstract.listen()
        command = f"""
            get='GET / HTTP/1.0\\r\\n\\r\\n'
            (exec 3<>/dev/tcp/127.0.0.1/{listening} && printf "$get" >&3 && cat <&3; echo)
            cat /proc/net/unix | grep -c {name}; tail -n +3 /proc/net/dev | cut -d: -f1"""
        said = await _said(fake, start_agent, command, network=network)
    reached = network == "host"
    assert ("hello from outside" in said) is reached
    lines = [line.strip() for line in said.splitlines()]
    assert ("1" if reached else "0") in lines
    if not reached:
        assert lines[lines.index("0") + 1] == "lo"
        assert not {"eth0", "docker0"} & set(lines)


async def test_the_environment_is_the_tasks_own(
    fake: FakeApi, start_agent: StartAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the agent was started with stays outside; and what a task brings does not get there."""
    monkeypatch.setenv("AWS_SECRET", "s3cret")
    task = fake.add(
        "(env -0; cat /proc/1/environ /proc/$PPID/environ) | tr '\\0' '\\n'",
        env={"MINE": "several\nlines ü", "LD_PRELOAD": "/nowhere.so", "PATH": "/usr/bin:/bin"},
    )
    async with start_agent(isolation="bwrap"):
        result = await fake.result(task)
    said = fake.log(task).decode()
    assert result.exit_code == 0
    assert "s3cret" not in said
    assert "MINE=several\nlines ü\n" in said
    assert "HOME=/work\n" in said
    assert f"DW_TASK_ID={task}\n" in said
    names = {line.partition("=")[0] for line in said.splitlines() if "=" in line}
    ours = {"DW_TASK_ID", "DW_ATTEMPT", "DW_AGENT", "DW_AGENT_ID"}
    shell = {"PWD", "OLDPWD", "SHLVL", "_"}
    given = {"MINE", "LD_PRELOAD", "PATH", "HOME", "LANG", "LANGUAGE", "TZ"}
    assert {name for name in names if not name.startswith("LC_")} <= ours | shell | given


@pytest.mark.parametrize("field", ["env", "secrets"])
async def test_a_tasks_variables_are_in_the_sandbox_alone(
    fake: FakeApi, start_agent: StartAgent, field: str
) -> None:
    """Command lines can be read by all; and bwrap runs outside, where LD_PRELOAD is a way out."""
    task = fake.add("sleep 600", **{field: {"PASSWORD": "s3cret-v4lue"}})
    async with start_agent(isolation="bwrap") as worker:
        await eventually(lambda: bool(worker._runner._runs), "it runs")
        lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline")]
        assert any(b"json-status-fd" in line for line in lines)
        assert not any(b"s3cret-v4lue" in line for line in lines)
        (run,) = worker._runner._runs.values()
        environ = Path(f"/proc/{run.process.pid}/environ").read_bytes()
        assert b"DW_TASK_ID" in environ
        assert b"s3cret-v4lue" not in environ
        fake.cancelled.add((task, 1))
        fake.poke()
        await fake.result(task)


async def test_a_secret_is_in_the_sandbox_and_not_in_its_log(
    fake: FakeApi, start_agent: StartAgent
) -> None:
    """Its output is redacted as any other's."""
    task = fake.add('printf %s "$S" | wc -c; echo "<$S>"', secrets={"S": "s3cret-v4lue"})
    async with start_agent(isolation="bwrap"):
        await fake.result(task)
    assert fake.log(task) == b"12\n<***>\n"


async def test_no_descriptor_of_the_agents_is_there(fake: FakeApi, start_agent: StartAgent) -> None:
    """Through one, what was opened outside could be read."""
    said = await _said(fake, start_agent, "ls -l /proc/self/fd | awk '{print $9, $11}'")
    fds = {line.split()[0]: line.split()[1:] for line in said.splitlines() if line.strip()}
    assert set(fds) <= {"0", "1", "2", "3"}
    assert fds.get("3", ["/proc/"])[0].startswith("/proc/")  # the one that ls lists by


async def test_what_only_root_may_read_in_etc_is_covered(
    fake: FakeApi, start_agent: StartAgent
) -> None:
    """An agent of root's: a task is root there, too, and owns those files."""
    said = await _said(fake, start_agent, "cat /etc/shadow; ls -l /etc | wc -l")
    assert "root:" not in said
    assert "Permission denied" in said or "cannot open" in said


async def test_a_task_may_ask_for_more_than_its_agent_gives(
    fake: FakeApi, start_agent: StartAgent
) -> None:
    """The agent says that it can; a task that asks for nothing gets the agent's own."""
    asking = fake.add("pwd", isolation="bwrap")
    plain = fake.add("pwd")
    async with start_agent():
        await fake.result(asking)
        await fake.result(plain)
    assert fake.sessions[0].labels == ("isolation=bwrap",)
    assert fake.log(asking) == b"/work\n"
    assert fake.log(plain) != b"/work\n"


async def test_a_task_never_gets_less(fake: FakeApi, start_agent: StartAgent) -> None:
    """Else whoever submits would switch it off."""
    task = fake.add("pwd", isolation="none")
    async with start_agent(isolation="bwrap"):
        await fake.result(task)
    assert fake.log(task) == b"/work\n"


async def test_what_it_was_given_beside(
    fake: FakeApi, start_agent: StartAgent, tmp_path: Path
) -> None:
    """Tools and caches that tasks share."""
    tools, cache = tmp_path / "tools", tmp_path / "cache"
    tools.mkdir()
    cache.mkdir()
    (tools / "tool").write_text("a tool\n")
    command = f"cat {tools}/tool; echo x > {tools}/new; echo kept > {cache}/new; cat {cache}/new"
    said = await _said(fake, start_agent, command, readable=(str(tools),), writable=(str(cache),))
    assert said.startswith("a tool\nkept\n")
    assert (cache / "new").read_text() == "kept\n"
    assert not (tools / "new").exists()


# What is as ever


@pytest.mark.parametrize(
    ("command", "end"),
    [
        ("exit 7", ("exit", 7, None)),
        ("true", ("exit", 0, None)),
        ("kill -KILL $$", ("signal", None, 9)),
        ("kill -SEGV $$", ("signal", None, 11)),
        ("kill -TERM $$", ("signal", None, 15)),
        ("exec sh -c 'kill -USR1 $$'", ("signal", None, 10)),
        ("no-such-command-here", ("exit", 127, None)),
        ("exit 128", ("exit", 128, None)),
        ("exit 255", ("exit", 255, None)),
    ],
)
async def test_the_end_is_told_as_it_was(
    fake: FakeApi, start_agent: StartAgent, command: str, end: tuple[str, int | None, int | None]
) -> None:
    """People read failures from this."""
    task = fake.add(command)
    async with start_agent(isolation="bwrap"):
        result = await fake.result(task)
    assert (result.reason, result.exit_code, result.signal) == end


async def test_output_arrives_byte_by_byte(fake: FakeApi, start_agent: StartAgent) -> None:
    """Both streams, and 20 MB without a newline."""
    task = fake.add("head -c 20000000 /dev/zero | tr '\\0' x; printf '\\377\\0' >&2")
    async with start_agent(isolation="bwrap"):
        await fake.result(task)
    assert fake.log(task) == b"x" * 20_000_000
    assert fake.log(task, "stderr") == b"\xff\0"


async def test_a_shell_says_nothing_of_its_own(fake: FakeApi, start_agent: StartAgent) -> None:
    """The one that stands beside the command would tell of its death."""
    said = await _said(fake, start_agent, "kill -KILL $$")
    assert said == ""


async def test_signals_do_what_they_do_elsewhere(fake: FakeApi, start_agent: StartAgent) -> None:
    """What stands beside the command must not hand on what it ignores."""
    task = fake.add("grep -E '^Sig(Blk|Ign):' /proc/self/status")
    plain = fake.add("grep -E '^Sig(Blk|Ign):' /proc/self/status")
    async with start_agent(isolation="bwrap"):
        await fake.result(task)
    async with start_agent():
        await fake.result(plain)
    assert fake.log(task) == fake.log(plain)


@pytest.mark.parametrize("end", ["cancel", "timeout", "silence"])
async def test_it_is_ended_with_its_tree(
    fake: FakeApi, start_agent: StartAgent, tmp_path: Path, end: str
) -> None:
    """What is deaf, detached and has wiped its environment, too: its namespace ends."""
    deaf = "env -i setsid bash -c 'trap \"\" TERM; while :; do sleep 0.05; done'"
    fields: dict[str, Any] = {"cancel": {}, "timeout": {"timeout": 1}, "silence": {}}[end]
    if end == "silence":
        fields = {"no_output_timeout": 1}
    task = fake.add(f"({deaf} </dev/null >/dev/null 2>&1 &); sleep 600", **fields)
    async with start_agent(isolation="bwrap", kill_grace_s=0.3) as worker:
        await eventually(lambda: bool(worker._runner._runs), "it runs")
        (run,) = worker._runner._runs.values()
        leader = run.process.pid
        await eventually(lambda: len(_below(leader)) >= 4, "all of it runs")
        below = _below(leader)
        if end == "cancel":
            fake.cancelled.add((task, 1))
            fake.poke()
        result = await fake.result(task)
    assert result.reason == ("cancelled" if end == "cancel" else "timeout")
    await eventually(lambda: not any(runs(pid) for pid in below), "all of it has ended")


def _below(pid: int) -> set[int]:
    try:
        return {child.pid for child in psutil.Process(pid).children(recursive=True)}
    except psutil.NoSuchProcess:
        return set()


async def test_the_whole_tree_may_write_its_last_line(
    fake: FakeApi, start_agent: StartAgent
) -> None:
    """The shell above them dies at once; bwrap would kill them with it."""
    tidy = 'trap "sleep 0.3; echo tidied; exit" TERM; echo ready; while :; do sleep 0.01; done'
    task = fake.add(f"setsid bash -c '{tidy}' & wait")
    async with start_agent(isolation="bwrap", flush_s=0.05, kill_grace_s=20):
        fake.flush_ms = 50
        await fake.until(lambda: fake.log(task) == b"ready\n")
        fake.cancelled.add((task, 1))
        fake.poke()
        result = await fake.result(task)
    assert (result.reason, result.signal) == ("cancelled", signal.SIGTERM)
    assert fake.log(task) == b"ready\ntidied\n"


async def test_what_has_closed_its_output_has_time_to_tidy_up(
    fake: FakeApi, start_agent: StartAgent, tmp_path: Path
) -> None:
    """Nothing shows that it still runs, but that it is there; the result waits for it."""
    cache = tmp_path / "cache"
    cache.mkdir()
    tidy = f'trap "sleep 0.3; echo tidied > {cache}/done; exit" TERM; echo up > {cache}/up'
    loop = "while :; do sleep 0.01; done"
    task = fake.add(f"setsid bash -c '{tidy}; {loop}' </dev/null >/dev/null 2>&1 & wait")
    async with start_agent(isolation="bwrap", kill_grace_s=20, writable=(str(cache),)):
        await eventually((cache / "up").exists, "it runs")
        fake.cancelled.add((task, 1))
        fake.poke()
        await fake.result(task)
        assert (cache / "done").read_text() == "tidied\n"


async def test_what_holds_the_output_may_still_write(
    fake: FakeApi, start_agent: StartAgent
) -> None:
    """`exec > >(tee log)` is in every second script, and tee is last."""
    task = fake.add("exec > >(sleep 0.3; cat); echo late")
    async with start_agent(isolation="bwrap"):
        result = await fake.result(task)
    assert (result.exit_code, fake.log(task)) == (0, b"late\n")


async def test_what_is_left_behind_does_not_hold_the_task_open(
    fake: FakeApi, start_agent: StartAgent
) -> None:
    """A daemon has closed its output: nobody waits for it. One that has not is given its time."""
    silent = fake.add("sleep 600 </dev/null >/dev/null 2>&1 & echo started")
    loud = fake.add("sleep 600 & echo started")
    async with start_agent(isolation="bwrap", pipe_wait_s=0.3):
        async with asyncio.timeout(10):
            assert (await fake.result(silent)).exit_code == 0
            assert (await fake.result(loud)).exit_code == 0
    assert fake.log(silent) == fake.log(loud) == b"started\n"


async def test_a_killed_worker_takes_its_sandboxes_along(
    fake: FakeApi, run_agent: RunAgent
) -> None:
    """Whatever runs in them: nobody need find it."""
    fake.add("trap '' TERM; sleep 600; sleep 600")
    async with run_agent("1", ISOLATION="bwrap") as agent:
        await fake.until(lambda: bool(fake.owned), "it is taken")
        worker = agent.worker()
        await eventually(lambda: len(_below(worker.pid)) >= 4, "it runs")
        below = _below(worker.pid)
        worker.kill()
        assert await agent.ends() == 128 + signal.SIGKILL
    await eventually(lambda: not any(runs(pid) for pid in below), "all of it has ended")


async def test_nothing_is_left_where_both_are_killed(fake: FakeApi, run_agent: RunAgent) -> None:
    """There is no next agent, and none is needed."""
    fake.add("env -i setsid sleep 600")
    async with run_agent("1", ISOLATION="bwrap") as agent:
        await fake.until(lambda: bool(fake.owned), "it is taken")
        worker = agent.worker()
        await eventually(lambda: len(_below(worker.pid)) >= 4, "it runs")
        below = _below(worker.pid)
        agent.process.send_signal(signal.SIGSTOP)  # else it may be quicker than we are
        worker.kill()
        agent.process.kill()
        await agent.ends()
    await eventually(lambda: not any(runs(pid) for pid in below), "all of it has ended")


async def test_an_exclusive_one_ends_with_its_lease_though_the_worker_stands_still(
    fake: FakeApi, run_agent: RunAgent
) -> None:
    """The guardian sees into the sandbox."""
    fake.lease_s = 3
    task = fake.add("sleep 600", exclusive=True)
    async with run_agent("1", ISOLATION="bwrap") as agent:
        await fake.until(lambda: bool(fake.owned), "it is taken")
        worker = agent.worker()
        await eventually(lambda: len(_below(worker.pid)) >= 4, "it runs")
        below = _below(worker.pid)
        worker.suspend()
        try:
            await eventually(lambda: not any(runs(pid) for pid in below), "it has ended")
        finally:
            worker.resume()
        result = await fake.result(task)
        agent.process.terminate()
        assert await agent.ends() == 0
    assert result.reason == "agent_lost"


async def test_sixteen_at_a_time(fake: FakeApi, run_agent: RunAgent) -> None:
    """Each in a sandbox of its own, two hundred of them."""
    tasks = [fake.add(f"echo {number} > mine; ls -A /work /tmp; cat mine") for number in range(200)]
    async with run_agent("16", ISOLATION="bwrap") as agent:
        async with asyncio.timeout(60):
            results: list[Result] = [await fake.result(task) for task in tasks]
        agent.process.terminate()
        assert await agent.ends() == 0
    assert {result.exit_code for result in results} == {0}
    for number, task in enumerate(tasks):
        assert fake.log(task).decode() == f"/tmp:\n\n/work:\nmine\n{number}\n"


async def test_its_folder_is_gone_afterwards(
    fake: FakeApi, start_agent: StartAgent, tmp_path: Path
) -> None:
    """Also what it left in its /tmp; a failed one's is kept where that was asked for."""
    fine = fake.add("touch x /tmp/y; mkdir z; chmod 0 z")
    async with start_agent(isolation="bwrap"):
        await fake.result(fine)
    broken = fake.add("touch x /tmp/y; exit 1")
    async with start_agent(isolation="bwrap", keep_work="failed"):
        await fake.result(broken)
        kept = tmp_path / "kept" / f"{broken}.1"
        await eventually(kept.exists, "it is kept")
    assert (kept / "work" / "x").exists()
    assert (kept / "tmp" / "y").exists()


async def test_a_folder_that_is_not_there(fake: FakeApi, start_agent: StartAgent) -> None:
    """As without a sandbox, the task's fault; one that the sandbox has is entered."""
    missing = fake.add("pwd", cwd=str(Path.home()))
    there = fake.add("pwd; touch x && echo wrote", cwd="/usr")
    async with start_agent(isolation="bwrap"):
        result = await fake.result(missing)
        await fake.result(there)
    assert (result.reason, result.exit_code) == ("exit", 127)
    assert fake.log(there) == b"/usr\n"


async def test_a_sandbox_that_cannot_be_made_blames_the_machine(
    fake: FakeApi, start_agent: StartAgent, tmp_path: Path
) -> None:
    """What the agent was told to show is gone: the task is innocent, and may run elsewhere."""
    tools = tmp_path / "tools"
    tools.mkdir()
    async with start_agent(isolation="bwrap", readable=(str(tools),)):
        tools.rmdir()
        task = fake.add("true")
        result = await fake.result(task)
    assert result.reason == "spawn_error"
    assert result.message is not None
    assert "bwrap could not make the sandbox" in result.message
    assert str(tools) in fake.log(task, "stderr").decode()


async def test_an_agent_that_cannot_isolate_does_not_start(
    fake: FakeApi, run_agent: RunAgent, tmp_path: Path
) -> None:
    """It must not run tasks without; one line says what to do."""
    missing = str(tmp_path / "missing")
    async with run_agent("1", ISOLATION="bwrap", READABLE=missing) as agent:
        assert await agent.ends() == 1
    assert "agent: ISOLATION=bwrap is not available here: bwrap: " in agent.said
    assert not fake.sessions
