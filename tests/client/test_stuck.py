"""Whoever waits for what no agent can take is told so, once."""

import asyncio

import pytest

from client import stuck
from client.client import Client
from client.stuck import OnceEach, Stuck
from schema.explain import Busy, Draining, InQueue, NoAgent, Why
from schema.logs import GroupNow
from tests.client.fake import Fake, event, until
from tests.client.test_cli import _dw, _start

NOBODY = NoAgent(
    text="No live agent has the label gpu; 2 agents are there.",
    missing=("gpu",), nearest=(), agents=2,
)  # fmt: skip
LINE = "task 1 waits: no live agent has the label gpu; 2 agents are there"
DRAINS = Draining(text="The only agent that could take it drains: a.", agents=("a",), count=1)


async def test_of_tasks_with_the_same_needs_one_is_asked_about(fake: Fake, dw: Client) -> None:
    """A thousand that wait for one phone are one line, and one question."""
    fake.why = (NOBODY, InQueue(text="1 task…", ahead=1, more=False, lane=(), priority=5))
    for _ in range(50):
        fake.add(group="g", needs=("gpu",))
    fake.add(group="g", needs=("phone",))
    fake.add(group="g", needs=("phone",), status="in_progress")
    found = await stuck.look(dw, (), "g")
    assert [each.text for each in found] == [
        LINE.replace("task 1 waits", "task 51 waits"),
        LINE.replace("task 1 waits", "task 1 and others wait"),
    ]
    assert fake.count("GET /tasks/") == 2
    assert [each.task for each in await stuck.look(dw, {3, 4}, "g")] == [3]
    assert [each.task for each in await stuck.look(dw, {3, 52}, None)] == [3]


@pytest.mark.parametrize(
    "why", [(), (Busy(text="All taken.", agents=1, slots=4, free_by=None),)], ids=["soon", "busy"]
)
async def test_what_agents_will_take_is_not_stuck(
    fake: Fake, dw: Client, why: tuple[Why, ...]
) -> None:
    """A queue is what is expected: to wait in it is no news."""
    fake.why = why
    fake.add()
    assert await stuck.look(dw, [1], None) == ()


def test_each_reason_is_told_once_and_again_when_it_comes_again() -> None:
    """Not every two seconds; and other tasks in the same plight are the same plight."""
    lines: list[str] = []
    tell = OnceEach(lines.append)
    for now in (
        (Stuck(1, others=False, why=NOBODY),),
        (Stuck(2, others=True, why=NOBODY), Stuck(3, others=False, why=DRAINS)),
        (Stuck(2, others=True, why=NOBODY),),
        (),
        (Stuck(2, others=True, why=NOBODY),),
    ):
        tell(now)
    assert lines == [
        LINE,
        "task 3 waits: the only agent that could take it drains: a",
        LINE.replace("task 1 waits", "task 2 and others wait"),
    ]


async def test_what_happens_inside_is_what_is_told(dw: Client) -> None:
    """An error of the wait comes as it is, not in a group of errors."""
    with pytest.raises(KeyError):
        async with stuck.told(dw, lambda _: None, ids=[1]):
            raise KeyError
    async with asyncio.timeout(10), stuck.told(dw, lambda _: None, ids=[1]):
        pass


@pytest.mark.parametrize(
    ("words", "code", "out"),
    [
        (["submit", "--wait", "--", "true"], 0, b"task 2\n1 succeeded in 0.00 s\n"),
        (["submit", "--follow", "--", "true"], 0, b""),
        (["wait", "1"], 0, b"1 succeeded in 0.00 s\n"),
        (["wait", "--group", "g"], 0, b"1 succeeded in 1m30s\n"),
        (["logs", "-f", "1"], 0, b""),
    ],
    ids=lambda value: "-".join(value[:2]) if isinstance(value, list) else "",
)
async def test_a_wait_that_nobody_ends_says_why_on_stderr(
    fake: Fake, words: list[str], code: int, out: bytes
) -> None:
    """With a typo in a label it would say nothing for ever; stdout is not for that."""
    fake.why = (NOBODY,)
    fake.add(group="g")
    process = await _start(fake, *words)
    number = 2 if words[0] == "submit" else 1
    asked = f"GET /tasks/{number}/explain"
    await until(lambda: fake.count(asked) >= 2, lambda: fake.seen)
    fake.change(number, status="succeeded", attempt=1)
    said, err = await process.communicate()
    assert (process.returncode, said) == (code, out)
    lines = [line for line in err.decode().splitlines() if line != "task 2"]
    assert lines == [f"dw: {LINE.replace('task 1', f'task {number}')}"]


async def test_a_watched_group_says_so_among_its_lines(fake: Fake) -> None:
    """Events of programs stay what they are: there it is on stderr."""
    fake.why = (NOBODY,)
    fake.add(group="g")
    now = GroupNow(name="g", total=1, counts={"pending": 1})
    over = GroupNow(name="g", total=1, counts={"cancelled": 1})

    async def ended(*words: str) -> tuple[bytes, bytes]:
        fake.change(1, status="pending")
        fake.seen.clear()
        fake.scripts = [[event("group", now)], [], [], [], [], [], [], []]
        process = await _start(fake, *words)
        await until(lambda: fake.count("GET /tasks/1/explain") > 0, lambda: fake.seen)
        fake.change(1, status="cancelled")
        fake.scripts = [[event("done", over, "1")]] * 3
        return await process.communicate()

    out, err = await ended("watch", "g")
    assert out.decode().count(LINE) == 1
    assert LINE not in err.decode()
    out, err = await ended("watch", "g", "--json")
    assert LINE.encode() not in out
    assert err.decode() == f"dw: {LINE}\n"
    assert (await _dw(fake, "explain", "1")).out == "task 1: It is over.\n"
