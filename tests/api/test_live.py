"""Live logs over HTTP: history and what comes are one, to the byte."""

import asyncio
import random
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from api.live import steps
from tests.api.conftest import StartApi
from tests.api.events import Viewer, watched
from tests.api.server import Api, chunk, eventually, exited, total
from tests.api.writers import Writer, until, writer


def _live(number: int, query: str = "") -> str:
    return f"/tasks/{number}/logs/live{query}"


def _ended(viewer: Viewer) -> bool:
    return bool(viewer.named("end"))


async def test_a_task_is_told_from_its_beginning_to_its_end(api: Api) -> None:
    """What it is, which attempt, every byte, how whole the log is, and how it went."""
    agent = await writer(api)
    number = agent.task.id
    await agent.write(5)
    async with watched(api, _live(number)) as viewer:
        await until(viewer, lambda one: len(one.pieces) == 5)
        await agent.write(5)
        await until(viewer, lambda one: len(one.pieces) == 10)
        await agent.end()
        await until(viewer, _ended)
    assert [event.name for event in viewer.events if event.name != "output"] == [
        "status", "attempt", "status", "log", "end",
    ]  # fmt: skip
    first, last = viewer.named("status")
    assert (first["status"], first["attempt"], first["agent"]) == ("in_progress", 1, "tester")
    assert last["status"] == "succeeded"
    assert viewer.named("attempt")[0]["attempt"] == 1
    (log,) = viewer.named("log")
    assert log["state"] == "complete"
    assert log["stdout"]["bytes"] == len(agent.logs["stdout"])
    (end,) = viewer.named("end")
    assert (end["status"], end["reason"], end["exit_code"]) == ("succeeded", "exit", 0)
    for stream, data in agent.logs.items():
        assert viewer.log(number, stream) == data


async def test_lines_come_in_the_order_in_which_they_were_written(api: Api) -> None:
    """Over both streams, with their numbers; the same as the merged view has it."""
    agent = await writer(api, 1)
    number = agent.task.id
    async with watched(api, _live(number)) as viewer:
        await until(viewer, lambda one: bool(one.named("attempt")))
        for count in (1, 7, 30, 2, 50):
            await agent.write(count)
        await agent.end()
        await until(viewer, _ended)
    lines = [
        (piece["stream"], line.encode())
        for piece in viewer.pieces
        for line in piece["text"].splitlines(keepends=True)
    ]
    assert lines == agent.lines
    counted = 1
    for piece in viewer.pieces:
        assert piece["line"] == counted
        counted += piece["text"].count("\n")
    assert (await api.log(number)).encode() == b"".join(line for _, line in agent.lines)


@pytest.mark.parametrize("seed", range(4))
async def test_a_viewer_who_is_cut_off_at_random_bytes_misses_none_and_gets_none_twice(
    api: Api, seed: int
) -> None:
    """He resumes with the last id that he processed, while the task goes on writing."""
    agent = await writer(api, seed)
    number = agent.task.id
    chance = random.Random(seed)
    viewer = Viewer(api, _live(number))

    async def write() -> None:
        for _ in range(60):
            await agent.write(chance.choice([1, 3, 20]))
            await asyncio.sleep(0.005)
        await agent.end()

    async with asyncio.TaskGroup() as group:
        group.create_task(write())
        cuts = 0
        while not _ended(viewer):
            viewer.received = 0
            await viewer.watch_bytes(chance.choice([1, 300, 2000, 30_000, 200_000]))
            cuts += 1
            assert cuts < 3000
    assert cuts > 5
    for stream, data in agent.logs.items():
        assert viewer.log(number, stream) == data
    assert len(viewer.named("attempt")) == 1
    lines = [line for piece in viewer.pieces for line in piece["text"].splitlines(keepends=True)]
    assert "".join(lines).encode() == b"".join(line for _, line in agent.lines)


_HALVES = ["ä".encode()[:1], "ä".encode()[1:]]
_bits = [b"a", b"\n", b"bc\n", b"\r", b"\0", b"\xff", "ä".encode(), *_HALVES]
_text = st.lists(st.sampled_from(_bits), max_size=9).map(b"".join)


@given(
    st.lists(st.tuples(_text, _text), min_size=1, max_size=12),
    st.integers(0, 12),
    st.lists(st.integers(0, 1500), max_size=12),
    st.sampled_from([7, 65_536]),
)
@example([(b"x" + _HALVES[0], b""), (_HALVES[1] + b"\n", b"")], 1, [], 65_536)
@example([(b"x\n" * 9, b"y" * 30), (b"z\n", b"")], 1, [300, 10, 100], 7)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_there_is_no_seam_wherever_the_stream_is_cut(
    api: Api, reports: list[tuple[bytes, bytes]], before: int, cuts: list[int], step: int
) -> None:
    """In what was stored before and in what comes, in a line or a character or an id.

    Resumed by `Last-Event-ID`: each byte comes once, and each line has the number and the place
    that it has in the whole log. Steps are large, or so small that they part lines.
    """
    session, task = await api.started()
    written = {"stdout": b"", "stderr": b""}
    viewer = Viewer(api, _live(task.id))

    async def report(number: int, *texts: bytes) -> None:
        chunks = []
        for at, (stream, data) in enumerate(zip(written, texts, strict=True)):
            if data:
                chunks.append(chunk(task.lease, data, stream=stream, offset=len(written[stream]),
                                    at=2 * number + at))  # fmt: skip
                written[stream] += data
        assert set(await api.report(session, chunks)) <= {"ok"}

    async def write() -> None:
        for number, texts in enumerate(reports[before:], before):
            await report(number, *texts)
        await report(len(reports), b"\n", b"\n")
        await api.report(session, [], [exited(task.lease)])

    for number, texts in enumerate(reports[:before]):
        await report(number, *texts)
    with patch.object(steps, "STEP_BYTES", step):
        async with asyncio.TaskGroup() as group:
            group.create_task(write())
            for most in cuts:
                viewer.received = 0
                if not _ended(viewer):
                    await viewer.watch_bytes(most)
            while not _ended(viewer):
                await viewer.watch()
    assert {stream: viewer.log(task.id, stream) for stream in written} == written
    whole = await api.call("GET", f"/tasks/{task.id}/logs?numbers=true")
    assert whole.body == b"".join(b"%d:%b\n" % (line, text) for line, _, text in viewer.lines())


async def test_all_viewers_see_the_same(api: Api) -> None:
    """Those who come early, in the middle, late, and with a position share steps."""
    agent = await writer(api, 5)
    number = agent.task.id
    viewers = [Viewer(api, _live(number)) for _ in range(12)]

    async def watch(index: int, viewer: Viewer) -> None:
        await asyncio.sleep(0.02 * index)
        await viewer.watch(lambda one: index % 3 == 0 and len(one.pieces) > 20)
        await viewer.watch()

    async with asyncio.TaskGroup() as group:
        for index, viewer in enumerate(viewers):
            group.create_task(watch(index, viewer))
        for _ in range(30):
            await agent.write(4)
            await asyncio.sleep(0.01)
        await agent.end()
    for viewer in viewers:
        for stream, data in agent.logs.items():
            assert viewer.log(number, stream) == data


@pytest.mark.parametrize("lines", [0, 1, 3, 10, 100])
async def test_the_tail_and_what_follows(api: Api, lines: int) -> None:
    """Exactly the last lines of both streams together, and then all that comes."""
    agent = await writer(api, lines)
    number = agent.task.id
    await agent.write(10)
    await agent.write(10)
    async with watched(api, _live(number, f"?tail={lines}")) as viewer:
        await until(viewer, lambda one: bool(one.named("attempt")))
        await agent.write(5)
        await agent.end()
        await until(viewer, _ended)
    text = "".join(piece["text"] for piece in viewer.pieces)
    wanted = agent.lines[max(0, 20 - lines) :]
    assert text.encode() == b"".join(line for _, line in wanted)
    assert viewer.pieces[0]["line"] == max(0, 20 - lines) + 1


async def test_one_stream_alone(api: Api) -> None:
    """The other one is not sent; lines count in this one."""
    agent = await writer(api, 9)
    number = agent.task.id
    await agent.write(40)
    await agent.end()
    viewer = Viewer(api, _live(number, "?stream=stderr"))
    await viewer.watch()
    assert viewer.log(number, "stderr") == agent.logs["stderr"]
    assert viewer.log(number, "stdout") == b""
    assert list(viewer.named("log")[0])[3:] == ["stderr"]
    last = viewer.pieces[-1]
    assert last["line"] + last["text"].count("\n") - 1 == agent.logs["stderr"].count(b"\n")


async def test_a_page_and_what_comes_behind_it_have_no_seam(api: Api) -> None:
    """The console shows the last page, and goes on live behind it."""
    agent = await writer(api, 11)
    number = agent.task.id
    await agent.write(30)
    first = chunk(agent.task.lease, b"an open line", offset=len(agent.logs["stdout"]), at=999)
    await api.report(agent.session, [first])
    page = (await api.call("GET", f"/tasks/{number}/logs/lines?tail=true&lines=10")).as_(dict)
    assert [line["line"] for line in page["lines"]] == list(range(22, 32))
    assert page["lines"][-1] | {"at_us": 0} == {
        "line": 31, "stream": "stdout", "at_us": 0, "offset": len(agent.logs["stdout"]),
        "text": "an open line", "open": True,
    }  # fmt: skip
    agent.logs["stdout"] += b"an open line"
    async with watched(api, _live(number, f"?after={page['after']}")) as viewer:
        await until(viewer, lambda one: bool(one.named("status")))
        rest = chunk(agent.task.lease, b" ends\nx\n", offset=len(agent.logs["stdout"]), at=1000)
        await api.report(agent.session, [rest])
        await until(viewer, lambda one: bool(one.pieces))
    assert [(piece["line"], piece["text"]) for piece in viewer.pieces] == [(31, " ends\nx\n")]


async def test_what_is_not_a_line_yet_is_shown_at_once(api: Api) -> None:
    """A progress bar; but not half a character of it."""
    session, task = await api.started()
    async with watched(api, _live(task.id)) as viewer:
        await api.report(session, [chunk(task.lease, "50 % ä".encode()[:-1], at=1)])
        await until(viewer, lambda one: bool(one.pieces))
        await api.report(session, [chunk(task.lease, "ä!\n".encode()[1:], offset=6, at=2)])
        await until(viewer, lambda one: len(one.pieces) == 2)
        await api.report(session, [], [exited(task.lease)])
        await until(viewer, _ended)
    first, second = viewer.pieces
    assert (first["text"], first["open"], first["line"]) == ("50 % ", True, 1)
    assert (second["text"], second.get("open"), second["line"]) == ("ä!\n", None, 1)


@given(st.lists(st.binary(min_size=1, max_size=200), min_size=1, max_size=8))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_bytes_survive(api: Api, pieces: list[bytes]) -> None:
    """Tests print binaries, broken UTF-8, NULs and carriage returns."""
    session, task = await api.started()
    viewer = Viewer(api, _live(task.id))
    watching = asyncio.ensure_future(viewer.watch())
    offset = 0
    for piece in pieces:
        await api.report(session, [chunk(task.lease, piece, offset=offset)])
        offset += len(piece)
    await api.report(session, [], [exited(task.lease)])
    await watching
    assert viewer.log(task.id) == b"".join(pieces)


async def test_another_attempt_while_somebody_watches(api: Api) -> None:
    """The rest of the first one, what its log says, then the second from its first byte."""
    label = "watched-twice"
    number = await api.submit(needs=[label], max_attempts=2)
    async with watched(api, _live(number)) as viewer:
        await until(viewer, lambda one: bool(one.named("status")))
        session = await api.open(label)
        (first,) = await api.claim(session, wait=10)
        agent = Writer(api, session, first)
        await agent.write(5)
        await until(viewer, lambda one: bool(one.pieces))
        await agent.end(exit_code=1)
        (second,) = await api.claim(session, wait=30)
        assert second.attempt == 2
        again = Writer(api, session, second, seed=3)
        await again.write(5)
        await again.end()
        await until(viewer, _ended)
    for stream in ("stdout", "stderr"):
        assert viewer.log(number, stream, 1) == agent.logs[stream]
        assert viewer.log(number, stream, 2) == again.logs[stream]
    names = [event.name for event in viewer.events if event.name not in {"output", "status"}]
    assert names == ["attempt", "log", "attempt", "log", "end"]
    statuses = [each["status"] for each in viewer.named("status")]
    assert [each for at, each in enumerate(statuses) if each not in statuses[:at]] == [
        "pending", "in_progress", "scheduled", "succeeded",
    ]  # fmt: skip


async def test_who_comes_late_is_shown_the_newest_attempt(api: Api) -> None:
    """Earlier ones have pages of their own. Who was there before goes on where he was."""
    number = await api.submit(needs=["late"])
    session = await api.open("late")
    (first,) = await api.claim(session, wait=10)
    agent = Writer(api, session, first)
    await agent.write(3)
    early = Viewer(api, _live(number))
    await early.watch(lambda one: bool(one.pieces))
    await agent.write(3)
    await agent.end(exit_code=1)
    await api.post(f"/tasks/{number}/retry", {})
    (second,) = await api.claim(session, wait=10)
    again = Writer(api, session, second, seed=2)
    await again.write(3)
    await again.end()
    late = Viewer(api, _live(number))
    await asyncio.gather(early.watch(), late.watch())
    assert [each["attempt"] for each in late.named("attempt")] == [2]
    assert [each["attempt"] for each in early.named("attempt")] == [1, 2]
    for stream in ("stdout", "stderr"):
        assert early.log(number, stream, 1) == agent.logs[stream]
        assert early.log(number, stream, 2) == late.log(number, stream, 2) == again.logs[stream]


async def test_who_was_told_the_end_need_not_come_again(api: Api) -> None:
    """A browser connects again when a stream ends; 204 stops it. But a retry is worth it."""
    agent = await writer(api)
    number = agent.task.id
    await agent.end()
    viewer = Viewer(api, _live(number))
    await viewer.watch()
    assert viewer.last_id is not None
    assert viewer.last_id.endswith(".end")
    seen = len(viewer.events)
    await viewer.watch()
    assert (viewer.status, len(viewer.events)) == (204, seen)
    await api.post(f"/tasks/{number}/retry", {})
    await viewer.watch(lambda one: one.named("status")[-1]["status"] == "pending")
    assert viewer.status == 200


async def test_a_task_that_is_cancelled_before_it_starts_ends(api: Api) -> None:
    """There is no attempt and no log to wait for."""
    number = await api.submit()
    async with watched(api, _live(number)) as viewer:
        await until(viewer, lambda one: bool(one.named("status")))
        await api.call("POST", f"/tasks/{number}/cancel")
        await until(viewer, _ended)
    assert [event.name for event in viewer.events] == ["status", "status", "end"]
    assert viewer.named("end")[0]["status"] == "cancelled"


async def test_bytes_behind_a_gap_come_when_it_closes_or_the_attempt_ends(api: Api) -> None:
    """A chunk that overtook another waits; one that never came is named."""
    session, task = await api.started()
    async with watched(api, _live(task.id)) as viewer:
        await api.report(session, [chunk(task.lease, b"ccc\n", offset=8, at=3)])
        await api.report(session, [chunk(task.lease, b"aaa\n", at=1)])
        await until(viewer, lambda one: bool(one.pieces))
        assert viewer.log(task.id) == b"aaa\n"
        await api.report(session, [chunk(task.lease, b"bbb\n", offset=4, at=2)])
        await until(viewer, lambda one: viewer.log(task.id) == b"aaa\nbbb\nccc\n")
        await api.report(session, [chunk(task.lease, b"eee\n", offset=16, at=5)])
        declared: dict[str, Any] = {"stdout": {"bytes": 20, "crc": 0}, "stderr": total(b"")}
        await api.report(session, [], [exited(task.lease, **declared)])
        viewer.logs[task.id, 1, "stdout"].extend(b"ddd\n")  # it expects none, and is told of it
        await until(viewer, _ended)
    assert viewer.log(task.id) == b"aaa\nbbb\nccc\nddd\neee\n"
    (log,) = viewer.named("log")
    assert (log["state"], log["stdout"]["missing"]) == ("missing", [[12, 16]])


async def test_the_batches_of_an_agent_of_old_and_the_last_one_behind_its_status(
    own_api: Api,
) -> None:
    """It may send its status before its last batch: nothing says how much there is."""
    number = await own_api.submit(needs=[])
    assert (await own_api.call("POST", "/tasks/pull")).status == 200

    async def batch(index: int, content: str) -> None:
        body = {"kind": "stdout", "index": index, "content": content}
        assert (await own_api.post(f"/tasks/{number}/logs", body)).status == 200

    async with watched(own_api, _live(number)) as viewer:
        await batch(0, "a\nb")
        await until(viewer, lambda one: bool(one.pieces))
        await batch(2, "e")
        await batch(1, "c\nd")
        await until(viewer, lambda one: one.log(number) == b"a\nb\nc\nd\ne\n")
        body = b'{"status": "succeeded"}'
        await own_api.call("PATCH", f"/tasks/{number}/status", data=body)
        await batch(3, "f")
        await until(viewer, _ended)
    assert viewer.log(number) == b"a\nb\nc\nd\ne\nf\n"
    assert viewer.named("log")[0]["state"] == "undeclared"


_GAP = [("stdout", 0, b"a\nb"), ("stdout", 10, b"c\nd"), ("stdout", 20, b"e\nf\n")]
_CUT = [("stdout", 0, b"a\nb"), ("stderr", 0, b"c\nd")]


@pytest.mark.parametrize(
    ("chunks", "lines"), [(_GAP, 1), (_GAP, 2), (_CUT, 1), (_CUT, 2), (_CUT, 3), (_CUT, 10)]
)
async def test_the_tail_of_a_broken_log_has_the_numbers_of_the_whole(
    api: Api, chunks: list[tuple[str, int, bytes]], lines: int
) -> None:
    """Lines also end where bytes are missing, and where a stream ends without a newline."""
    session, task = await api.started()
    await api.report(
        session,
        [
            chunk(task.lease, data, stream=stream, offset=offset, at=at)
            for at, (stream, offset, data) in enumerate(chunks)
        ],
        [exited(task.lease)],
    )
    whole = (await api.log(task.id, numbers="true")).splitlines()
    viewer = Viewer(api, _live(task.id, f"?tail={lines}"))
    await viewer.watch()
    seen = [
        f"{number}:{text}"
        for piece in viewer.pieces
        for number, text in enumerate(piece["text"].splitlines(), piece["line"])
    ]
    assert seen == whole[-lines:]


async def test_lines_that_are_open_in_both_streams_keep_their_numbers(api: Api) -> None:
    """The tail begins behind one of them: it has no number before it ends."""
    session, task = await api.started()
    first = [chunk(task.lease, b"a\nopen", at=1), chunk(task.lease, b"b", at=2, stream="stderr")]
    await api.report(session, first)
    async with watched(api, _live(task.id, "?tail=1")) as viewer:
        await until(viewer, lambda one: bool(one.pieces))
        await api.report(session, [chunk(task.lease, b" ends\n", offset=6, at=3)])
        await api.report(session, [chunk(task.lease, b" too\n", offset=1, at=4, stream="stderr")])
        await api.report(session, [], [exited(task.lease)])
        await until(viewer, _ended)
    assert [(piece["line"], piece["text"]) for piece in viewer.pieces] == [
        (2, "b"), (2, " ends\n"), (3, " too\n"),
    ]  # fmt: skip


async def test_a_position_behind_all_that_a_task_wrote_is_refused(api: Api) -> None:
    """It is another task's: what this one writes up to there would never be shown."""
    agent, other = await writer(api, 1), await writer(api, 2)
    await agent.write(20)
    await agent.end()
    viewer = Viewer(api, _live(agent.task.id))
    await viewer.watch(lambda one: bool(one.pieces))
    path = _live(other.task.id, f"?after={viewer.last_id}")
    (await api.call("GET", path)).problem(400, str(other.task.id), "not written so much")
    await api.post(f"/tasks/{agent.task.id}/retry", {})
    await viewer.watch(lambda one: bool(one.named("log")))
    assert viewer.log(agent.task.id) == agent.logs["stdout"]


async def test_long_lines_and_large_logs_come_in_steps(api: Api) -> None:
    """A step is what a slow viewer holds."""
    session, task = await api.started()
    data = b"y" * 700_000 + b"\n" + b"short\n" * 50_000
    pieces = [data[at : at + 300_000] for at in range(0, len(data), 300_000)]
    for number, piece in enumerate(pieces):
        await api.report(session, [chunk(task.lease, piece, offset=number * 300_000, at=number)])
    await api.report(session, [], [exited(task.lease, stdout=total(data), stderr=total(b""))])
    viewer = Viewer(api, _live(task.id))
    await viewer.watch()
    assert viewer.log(task.id) == data
    assert max(len(piece["text"]) for piece in viewer.pieces) <= steps.STEP_BYTES
    assert len(viewer.named("output")) > 10


@pytest.mark.parametrize(
    ("path", "status", "word"),
    [
        ("/tasks/999999/logs/live", 404, "999999"),
        ("/tasks/{}/logs/live?after=nonsense", 400, "nonsense"),
        ("/tasks/{}/logs/live?after=7.0.0.0", 400, "attempts"),
        ("/tasks/{}/logs/live?tail=-1", 400, "tail"),
        ("/tasks/{}/logs/live?tail=10001", 400, "tail"),
        ("/tasks/{}/logs/live?stream=stdin", 400, "stream"),
        ("/groups/nobody/logs/live", 404, "nobody"),
        ("/groups/a%00b/logs/live", 404, "group"),
        ("/groups/{}/logs/live?after=nonsense", 400, "nonsense"),
    ],
)
async def test_what_cannot_be_watched_is_told(api: Api, path: str, status: int, word: str) -> None:
    """Before the stream begins, as a problem."""
    number = await api.submit(group="watched-badly")
    where = "watched-badly" if "groups" in path else number
    (await api.call("GET", path.format(where))).problem(status, word)


async def test_there_is_a_most_of_viewers(start_api: StartApi) -> None:
    """Each holds a connection and some memory; the others come back later."""
    async with start_api(max_viewers=1) as api:
        number = await api.submit()
        async with watched(api, _live(number)) as viewer:
            await until(viewer, lambda one: bool(one.named("status")))
            refused = await api.call("GET", _live(number))
            refused.problem(503, "1 viewers", "MAX_VIEWERS")
            assert refused.headers["retry-after"]

        async def admitted() -> int:
            one = Viewer(api, _live(number))
            async with one.reply() as reply:
                return reply.status

        await eventually(admitted, lambda status: status == 200)
