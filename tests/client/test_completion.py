"""Completion: what click's scripts ask of `dw` at a press of Tab, and what bash makes of it."""

import asyncio
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from aiohttp import web

from tests.client.fake import Fake
from tests.client.test_cli import _dw


async def _offered(fake: Fake | None, line: str, **env: str) -> list[str]:
    """The words that are offered for the last one of the line; an empty one after a space."""
    words = line.split(" ")
    ended = await _dw(
        fake, _DW_COMPLETE="bash_complete", COMP_WORDS=line, COMP_CWORD=str(len(words) - 1), **env
    )
    assert ended.err == ""
    return [each.partition(",")[2] for each in ended.out.splitlines() if each]


async def test_commands_and_options_need_no_server(fake: Fake) -> None:
    """And nothing is imported for the names of commands."""
    assert await _offered(None, "dw ca") == ["cancel"]
    assert set(await _offered(None, "dw agents ")) == {"drain"}
    assert "--group" in await _offered(None, "dw ls --")
    assert "failed" in await _offered(None, "dw ls --status ")
    imports = await _dw(
        None, _DW_COMPLETE="bash_complete", COMP_WORDS="dw ", COMP_CWORD="1",
        PYTHONPROFILEIMPORTTIME="1",
    )  # fmt: skip
    modules = {line.rpartition("|")[2].strip() for line in imports.err.splitlines()}
    assert not modules & {"aiohttp", "rich", "msgspec", "asyncio"}
    assert fake.seen == []


async def test_tasks_groups_and_agents_come_from_the_server(fake: Fake) -> None:
    """The newest; names that a shell would take for more than a word are not offered."""
    for name in ("nightly-23", "nightly-24", "smoke", "$(reboot)", "two words"):
        fake.add(group=name)
    fake.add_agent("farm-3")
    assert await _offered(fake, "dw show ") == ["5", "4", "3", "2", "1"]
    for line in ("dw watch ", "dw group ", "dw wait --group ", "dw logs -g "):
        assert await _offered(fake, line) == ["smoke", "nightly-24", "nightly-23"]
    assert await _offered(fake, "dw cancel --group nig") == ["nightly-24", "nightly-23"]
    assert await _offered(fake, "dw agents drain f") == ["farm-3"]


async def test_a_server_that_does_not_answer_holds_no_key_press_up(fake: Fake) -> None:
    """Nothing is offered after a second, and nothing is said."""

    async def hang(_: web.Request) -> web.Response:
        await asyncio.sleep(30)
        return web.Response()

    fake.faults.append(hang)
    began = time.monotonic()
    assert await _offered(fake, "dw watch ") == []
    assert time.monotonic() - began < 5
    assert await _offered(None, "dw watch ") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_the_scripts_are_ones_that_their_shells_can_read(shell: str) -> None:
    """Where the shell is there."""
    ended = await _dw(None, "completion", shell)
    assert (ended.code, ended.err) == (0, "")
    assert f"_DW_COMPLETE={shell}_complete" in ended.out
    if shutil.which(shell):
        words = [shell, "--no-execute" if shell == "fish" else "-n"]
        subprocess.run(words, input=ended.out, text=True, check=True)


async def test_bash_completes(fake: Fake, tmp_path: Path) -> None:
    """The whole way: its script is read, and its function is called as a Tab does."""
    fake.add(group="nightly-24")
    command = tmp_path / "dw"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m client.cli "$@"\n')
    command.chmod(0o755)
    script = (
        "source <(dw completion bash)\n"
        "COMP_WORDS=(dw watch nig); COMP_CWORD=2; _dw_completion dw nig watch\n"
        'echo "${COMPREPLY[@]}"'
    )
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", script, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env=os.environ
        | {"API_URL": fake.url, "TOKEN": "", "PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )  # fmt: skip
    out, err = await process.communicate()
    assert out == b"nightly-24\n", err
