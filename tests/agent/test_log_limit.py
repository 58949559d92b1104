"""A task that writes more than its log may hold: head, tail, and a line between them."""

import re

import pytest

from schema.reports import MIN_LOG_BYTES
from tests.agent.conftest import StartAgent
from tests.agent.fake_api import FakeApi

_MARKER = re.compile(rb"\[([0-9,]+) bytes in ([0-9,]+) lines of stdout are left out here: .*\]\n")


@pytest.mark.parametrize("whose", ["the API's", "the agent's own", "the smaller of both"])
async def test_the_middle_of_a_long_log_is_left_out(
    fake: FakeApi, start_agent: StartAgent, whose: str
) -> None:
    """The beginning tells what was run, the end why it ended; the smaller limit holds."""
    task = fake.add("seq 1 300000; echo the end; echo the reason >&2")
    own = {} if whose == "the API's" else {"max_log_bytes": MIN_LOG_BYTES}
    if whose != "the agent's own":
        fake.max_log_bytes = MIN_LOG_BYTES * (4 if own else 1)
    async with start_agent(**own):
        result = await fake.result(task)
    log = fake.log(task)
    written = b"".join(b"%d\n" % number for number in range(1, 300_001)) + b"the end\n"
    head, bytes_, lines, tail = _MARKER.split(log)
    left_out = int(bytes_.replace(b",", b""))
    assert written.startswith(head)
    assert written.endswith(tail)
    assert head.endswith(b"\n")
    assert len(head) + left_out + len(tail) == len(written)
    gone = written[len(head) : len(head) + left_out]
    assert int(lines.replace(b",", b"")) == gone.count(b"\n")
    assert MIN_LOG_BYTES // 2 < len(log) <= MIN_LOG_BYTES
    assert fake.log(task, "stderr") == b"the reason\n"
    assert result.stdout is not None
    assert result.stderr is not None
    assert (result.stdout.left_out, result.stderr.left_out) == (left_out, 0)


async def test_without_a_limit_of_the_api_there_is_none(
    fake: FakeApi, start_agent: StartAgent
) -> None:
    """Servers of before know none: an agent must not cut what they would take."""
    task = fake.add("seq 1 300000")
    async with start_agent():
        result = await fake.result(task)
    assert result.stdout is not None
    assert (result.stdout.bytes, result.stdout.left_out) == (1_988_895, 0)
