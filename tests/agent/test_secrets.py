"""A task's secrets are in its environment, and in nothing that leaves it or stays on the disk."""

import base64
import hashlib
import logging
from pathlib import Path

import pytest

from tests.agent.conftest import StartAgent, eventually
from tests.agent.fake_api import FakeApi, cut

_VALUE = "hunter2/hunter2+xyz"
_PEM = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nQUJD\n-----END KEY-----\n"
_FORMS = [_VALUE, base64.b64encode(_VALUE.encode()).decode(), "hunter2%2Fhunter2%2Bxyz"]


async def test_a_task_has_them_and_its_command_line_has_not(
    fake: FakeApi, start_agent: StartAgent
) -> None:
    """Whoever lists processes sees command lines, of all users."""
    command = "printf %s \"$S$P\" | sha256sum; tr '\\0' ' ' </proc/$$/cmdline; echo $DW_TASK_ID"
    task = fake.add(command, secrets={"S": _VALUE, "P": _PEM}, env={"S2": "x"})
    async with start_agent():
        assert (await fake.result(task)).exit_code == 0
    digest = hashlib.sha256((_VALUE + _PEM).encode()).hexdigest()
    assert fake.log(task).startswith(digest.encode())
    assert b"sha256sum" in fake.log(task)
    assert _VALUE.encode() not in fake.log(task)


@pytest.mark.parametrize("chunk_bytes", [1, 7, 524_288])
async def test_they_are_redacted_from_both_streams_wherever_they_are_cut(
    fake: FakeApi, start_agent: StartAgent, chunk_bytes: int
) -> None:
    """As they are, byte by byte, in base64 within a longer text, in a URL, and line by line."""
    command = """
        echo "<$S>"; echo "<$S>" >&2
        for ((i = 0; i < ${#S}; i++)); do printf %s "${S:i:1}"; done; echo
        printf %s "user:$S" | base64
        printf '%050d%s' 0 "$S" | base64
        echo 'https://x/?t=hunter2%2Fhunter2%2Bxyz'
        echo "$P" | sed 's/^/  /'
        printf %s hunter2/hunter2
    """
    task = fake.add(command, secrets={"S": _VALUE, "P": _PEM})
    async with start_agent(chunk_bytes=chunk_bytes):
        assert (await fake.result(task)).exit_code == 0
    assert fake.log(task, "stderr") == b"<***>\n"
    lines = fake.log(task).decode().split("\n")
    assert lines[:2] == ["<***>", "***"]
    assert lines[2].startswith("dXNlcj")
    assert lines[2].endswith("***")
    assert lines[3].startswith("MDAwMDAw")
    assert lines[3].endswith("***")
    assert lines[4:] == [
        "https://x/?t=***", "  ***", "  ***", "  QUJD", "  ***", "  ", "***",
    ]  # fmt: skip


async def test_what_may_begin_a_secret_waits_no_longer_than_a_flush(
    fake: FakeApi, start_agent: StartAgent, tmp_path: Path
) -> None:
    """A prompt is shown while its task waits for an answer, and the rest is hidden all the same."""
    gate = tmp_path / "gate"
    command = (
        f"printf 'continue? h'; until [ -e {gate} ]; do sleep 0.01; done; printf %s \"${{S#h}}!\""
    )
    task = fake.add(command, secrets={"S": _VALUE})
    async with start_agent(flush_s=0.1):
        await fake.until(lambda: fake.log(task) == b"continue? h", "the prompt is there")
        gate.touch()
        await fake.result(task)
    assert fake.log(task) == b"continue? h***!"


async def test_nothing_of_them_is_written_to_the_disk(
    fake: FakeApi, start_agent: StartAgent, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """While the API is away, output and results wait in files that outlive the agent."""
    caplog.set_level(logging.DEBUG)
    gate = tmp_path / "gate"
    command = (
        'echo "a line with $S"; printf %s "$S" | base64; echo "$P" >&2; '
        f"until [ -e {gate} ]; do sleep 0.01; done"
    )
    first = fake.add(command, secrets={"S": _VALUE, "P": _PEM})
    queued = [fake.add(command, secrets={"S": _VALUE, "P": _PEM}) for _ in range(3)]
    fake.standing["/reports"] = cut
    async with start_agent(flush_s=0.05):

        def spooled() -> bytes:
            return b"".join(file.read_bytes() for file in tmp_path.rglob("*.spool"))

        await eventually(lambda: len(spooled()) > 500, "output is spooled")
        on_disk = b"".join(
            file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()
        ) + b" ".join(str(file).encode() for file in tmp_path.rglob("*"))
        del fake.standing["/reports"]
        gate.touch()
        for task in (first, *queued):
            await fake.result(task)
    for secret in (*_FORMS, "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC"):
        assert secret.encode() not in on_disk
        assert secret not in caplog.text
    assert fake.log(first).startswith(b"a line with ***\n***")
