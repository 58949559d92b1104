"""Following logs: each byte once, whatever becomes of the connection."""

import asyncio
from contextlib import aclosing

import pytest
from aiohttp import web

from client import live
from client.client import Client
from client.errors import BrokenOffError, NotFoundError, UnreadableError
from client.following import follow
from client.group_following import Lines, follow_group
from schema.logs import GroupNow, LogOver, TaskEnded
from schema.tasks import Stream
from tests.client.fake import Fake, ended, event, now, output

_Got = dict[Stream, bytes]


async def _follow(dw: Client, *streams: Stream) -> tuple[_Got, list[int]]:
    got: _Got = {"stdout": b"", "stderr": b""}
    attempts: list[int] = []

    def write(stream: Stream, data: bytes) -> None:
        got[stream] += data

    task = await follow(
        dw,
        1,
        write,
        streams=streams or ("stdout", "stderr"),
        changed=lambda task: attempts.append(task.attempt),
    )
    assert task.status in {"succeeded", "failed"}
    return got, attempts


async def test_each_stream_is_written_to_its_end(fake: Fake, dw: Client) -> None:
    """Nothing twice, nothing lost, also what arrives with the end; bytes as they are."""
    fake.add()
    following = asyncio.ensure_future(_follow(dw))
    await asyncio.sleep(0)
    fake.change(1, status="in_progress", attempt=1)
    fake.log(1, "stdout", b"one\n")
    fake.log(1, "stderr", b"two\n")
    fake.log(1, "stdout", b"\x00\xff")
    fake.change(1, status="succeeded")
    got, attempts = await following
    assert got == {"stdout": b"one\n\x00\xff", "stderr": b"two\n"}
    assert attempts in ([1], [0, 1], [1, 1])


async def test_one_stream_alone_is_asked_for(fake: Fake, dw: Client) -> None:
    """The other one may be a gigabyte."""
    fake.add(status="succeeded", attempt=1)
    fake.log(1, "stdout", b"out")
    fake.log(1, "stderr", b"err")
    got, _ = await _follow(dw, "stderr")
    assert got == {"stdout": b"", "stderr": b"err"}
    assert fake.count("GET /tasks/1/logs/live?stream=stderr") == 1


async def test_a_connection_that_breaks_off_is_made_again(fake: Fake, dw: Client) -> None:
    """With the position behind the last whole event: the rest is neither lost nor doubled."""
    fake.add(status="failed", attempt=2)
    status = event("status", now(fake.tasks[1]))
    second = output(1, 1, "stdout", b"second", 5, "1.11")
    fake.scripts = [
        [status, output(1, 1, "stdout", b"first", 0, "1.5"), second[:-3]],
        [status, second, b": comment\n\n", b"event: new\ndata: {}\nid: 1.11.new\n\n"],
        [],
        [
            status,
            output(1, 2, "stdout", b"third", 0, "2.5"),
            event("end", ended(fake.tasks[1]), "e"),
        ],
    ]
    got, _ = await _follow(dw)
    assert got["stdout"] == b"firstsecondthird"
    assert fake.positions == [None, "1.5", "1.11.new", "1.11.new"]


async def test_the_end_that_was_told_before_the_break_is_the_end(fake: Fake, dw: Client) -> None:
    """The server says with 204 that there is nothing more."""
    fake.add(status="succeeded", attempt=1)
    fake.scripts = [[output(1, 1, "stdout", b"all", 0, "1.3")]]

    async def over(request: web.Request) -> web.Response | None:
        if "Last-Event-ID" not in request.headers:
            fake.faults.append(over)
            return None
        return web.Response(status=204)

    fake.faults.append(over)
    got, _ = await _follow(dw)
    assert got["stdout"] == b"all"


async def test_connections_that_bring_nothing_end_it(
    fake: Fake, dw: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that cuts every stream must not be asked for ever."""
    monkeypatch.setattr(live, "AGAIN_S", 0.001)
    fake.add(status="in_progress", attempt=1)
    fake.scripts = [[] for _ in range(20)]
    with pytest.raises(BrokenOffError):
        await _follow(dw)
    assert len(fake.positions) == 10


async def test_what_cannot_be_followed_is_told(fake: Fake, dw: Client) -> None:
    """An unknown task, and a server that speaks otherwise."""
    with pytest.raises(NotFoundError):
        await _follow(dw)
    fake.add()
    fake.scripts = [[b"event: status\ndata: {}\n\n"]]
    with pytest.raises(UnreadableError):
        await _follow(dw)


async def test_a_group_is_written_line_by_line(fake: Fake, dw: Client) -> None:
    """Lines of several tasks do not mix; what no newline ended is ended with its log."""
    tasks = [fake.add(status="succeeded", attempt=1), fake.add(status="failed", attempt=1)]
    counts = GroupNow(name="g", total=2, counts={"succeeded": 1, "failed": 1})
    fake.scripts = [
        [
            event("group", counts),
            output(1, 1, "stdout", b"a\nhalf ", 0, "1"),
            output(2, 1, "stdout", b"b\n", 0, "2"),
            output(1, 1, "stderr", b"e", 0, "3"),
        ],
        [
            output(1, 1, "stdout", b"line\nend", 7, "4"),
            event("log", LogOver(task=1, attempt=1, state="complete"), "5"),
            event("end", ended(tasks[0]), "6"),
            event("log", LogOver(task=2, attempt=1, state="missing"), "7"),
            event("end", ended(tasks[1]), "8"),
            event("done", counts, "9"),
        ],
    ]
    lines: list[tuple[int, Stream, bytes]] = []
    ends: list[TaskEnded] = []
    logs: list[LogOver] = []
    async with aclosing(dw.live_group("g", tail=3)) as events:
        await follow_group(
            events, lambda *line: lines.append(line), ended=ends.append, told=logs.append
        )
    assert lines == [
        (1, "stdout", b"a\n"), (2, "stdout", b"b\n"), (1, "stdout", b"half line\n"),
        (1, "stderr", b"e\n"), (1, "stdout", b"end\n"),
    ]  # fmt: skip
    assert [end.task for end in ends] == [1, 2]
    assert [log.state for log in logs] == ["complete", "missing"]
    assert fake.positions == [None, "3"]
    assert fake.count("GET /groups/g/logs/live?tail=3") == 2


def test_a_line_that_does_not_end_is_not_collected() -> None:
    """A progress bar of a gigabyte leaves in pieces."""
    lines: list[bytes] = []
    put = Lines(lambda _task, _stream, line: lines.append(line))
    for _ in range(100):
        put.take(1, "stdout", b"." * 1000)
    assert [len(line) for line in lines] == [66_001]
    put.end(1)
    assert sum(map(len, lines)) == 100_002
