"""Reports: one verdict per item; what is acknowledged is committed, once, and nothing else is."""

import asyncio
import gzip
from base64 import b64encode
from typing import Any

import asyncpg
import msgspec
import pytest

from schema.reports import MAX_CHUNK_BYTES, ReportReply
from tests.api.server import BASE_US, MSGPACK, Api, chunk, eventually, exited, total

_DATA = b"line 1\nline 2\n"
_MEMBER = gzip.compress(_DATA, mtime=0)


def _spoilt(at: int) -> bytes:
    spoilt = bytearray(_MEMBER)
    spoilt[at] ^= 0x10
    return bytes(spoilt)


_INVALID: list[tuple[str, dict[str, Any], str]] = [
    ("truncated", {"content": _MEMBER[:-1]}, "truncated"),
    ("two members", {"content": _MEMBER * 2}, "follows"),
    ("trailing garbage", {"content": _MEMBER + b"x"}, "follows"),
    ("wrong crc", {"content": _spoilt(-8)}, "gzip"),
    ("wrong length", {"content": _spoilt(-4)}, "gzip"),
    ("not gzip", {"content": _DATA}, "gzip"),
    ("nothing", {"content": b""}, "truncated"),
    ("an empty member", {"content": gzip.compress(b"")}, "empty"),
    ("a bomb", {"content": gzip.compress(bytes(MAX_CHUNK_BYTES + 1))}, str(MAX_CHUNK_BYTES)),
    ("cut marks", {"marks": b"\0"}, "marks"),
    ("marks behind the end", {"marks": b"\0\1\x7f\1"}, "marks"),
    ("a forged lease", {"lease": "1.1.739943.1.AAAAAAAAAAAAAAAAAAAAAA"}, "lease"),
    ("no lease", {"lease": "é"}, "lease"),
]


@pytest.mark.parametrize(("what", "wrong", "why"), _INVALID, ids=[each[0] for each in _INVALID])
async def test_a_chunk_that_can_never_be_accepted_is_named(
    api: Api, what: str, wrong: dict[str, Any], why: str
) -> None:
    """And its neighbours in the same report, before it and after it, are stored."""
    session, task = await api.started()
    chunks = [
        chunk(task.lease, b"before\n"),
        chunk(task.lease, _DATA, stream="stderr") | wrong,
        chunk(task.lease, b"after\n", offset=7),
    ]
    reply = await api.call(
        "POST", "/reports", data=msgspec.msgpack.encode({"session": session, "chunks": chunks}),
        headers={"Content-Type": MSGPACK},
    )  # fmt: skip
    verdicts = reply.as_(ReportReply).chunks
    assert [each.verdict for each in verdicts] == ["ok", "invalid", "ok"], what
    assert why in (verdicts[1].why or ""), verdicts[1]
    assert await api.log(task.id) == "before\nafter\n"


async def test_the_largest_chunk_is_taken(api: Api) -> None:
    """The limit is not off by one."""
    session, task = await api.started()
    data = b"x" * (MAX_CHUNK_BYTES - 1) + b"\n"
    assert await api.report(session, [chunk(task.lease, data)]) == ["ok"]
    assert await api.log(task.id) == data.decode()


async def test_a_result_is_refused_when_its_chunk_was(api: Api) -> None:
    """A result is committed with its own logs or after them, never if one of them failed."""
    session, task = await api.started()
    other_session, other = await api.started()
    chunks = [chunk(task.lease, b"x") | {"content": b"?"}, chunk(other.lease, b"fine")]
    results = [exited(task.lease), exited(other.lease)]
    verdicts = await api.report(session, chunks, results)
    assert verdicts == ["invalid", "ok", "conflict", "ok"]
    assert (await api.task(task.id)).status == "in_progress"
    assert (await api.task(other.id)).status == "succeeded"
    assert await api.report(session, [], [exited(task.lease)]) == ["ok"]
    assert await api.beat(other_session)


async def test_a_result_is_refused_when_its_chunk_met_other_bytes(api: Api) -> None:
    """The conflict is found in the database only: the result must wait for that too."""
    session, task = await api.started()
    await api.report(session, [chunk(task.lease, b"first")])
    chunks = [chunk(task.lease, b"other"), chunk(task.lease, b"next", offset=5)]
    verdicts = await api.report(session, chunks, [exited(task.lease)])
    assert verdicts == ["conflict", "ok", "conflict"]
    assert (await api.task(task.id)).status == "in_progress"
    assert await api.log(task.id) == "firstnext"


@pytest.mark.parametrize("resent", [False, True])
async def test_a_report_sent_again_changes_nothing(api: Api, *, resent: bool) -> None:
    """Its reply was lost. An agent says `resent`; one that does not must not lose or double."""
    session, task = await api.started()
    chunks = [chunk(task.lease, b"one\n"), chunk(task.lease, b"two\n", offset=4)]
    results = [exited(task.lease, 3, stdout=total(b"one\ntwo\n"))]
    assert await api.report(session, chunks, results) == ["ok", "ok", "ok"]
    before = await api.task(task.id)
    again = [each | {"resent": resent} for each in chunks]
    for _ in range(2):
        assert await api.report(session, again, results) == ["duplicate"] * 3
    assert await api.task(task.id) == before
    assert await api.log(task.id) == "one\ntwo\n"


async def test_new_and_old_chunks_in_one_report_are_told_apart(api: Api) -> None:
    """The agent cannot know which of them arrived."""
    session, task = await api.started()
    await api.report(session, [chunk(task.lease, b"bb\n", offset=3)])
    chunks = [
        chunk(task.lease, b"aa\n", resent=True),
        chunk(task.lease, b"bb\n", offset=3, resent=True),
        chunk(task.lease, b"cc\n", offset=6, resent=True),
        chunk(task.lease, b"xx\n", offset=3, resent=True),
        chunk(task.lease, b"cc\n", offset=6, resent=True),
    ]
    verdicts = await api.report(session, chunks)
    assert verdicts == ["ok", "duplicate", "ok", "conflict", "duplicate"]
    assert await api.log(task.id) == "aa\nbb\ncc\n"


async def test_the_same_result_twice_in_one_report_counts_once(api: Api) -> None:
    """And another reason for the same attempt is stale: the first one stands."""
    session, task = await api.started()
    results = [
        exited(task.lease, 1),
        exited(task.lease, 1),
        {"lease": task.lease, "reason": "timeout"},
    ]
    assert await api.report(session, [], results) == ["ok", "duplicate", "stale"]
    assert (await api.task(task.id)).reason == "exit"


async def test_a_stale_attempt_is_refused(api: Api) -> None:
    """Its task runs elsewhere or is over; its log is still worth having."""
    session, task = await api.started(max_attempts=2)
    await api.report(session, [], [exited(task.lease, 1)])
    (again,) = await api.claim(session, wait=20)
    late = {"lease": task.lease, "reason": "signal", "signal": 9}
    assert await api.report(session, [chunk(task.lease, b"late\n")], [late]) == ["ok", "stale"]
    assert await api.log(task.id, attempt=1) == "late\n"
    assert (await api.task(task.id)).status == "in_progress"
    assert await api.report(session, [], [exited(again.lease)]) == ["ok"]


async def test_a_day_that_retention_took_is_gone(
    own_api: Api, database: asyncpg.Connection
) -> None:
    """The chunk does not come in the way of its neighbours, and the result counts all the same."""
    session, task = await own_api.started()
    (label,) = (await own_api.task(task.id)).needs
    day = await database.fetchval("SELECT day FROM tasks WHERE id = $1", task.id)
    name = f"log_chunks_{day:%Y%m%d}"
    await database.execute(f"ALTER TABLE log_chunks DETACH PARTITION {name} CONCURRENTLY")
    await database.execute(f"DROP TABLE {name}")

    async def verdicts() -> list[str]:
        return await own_api.report(session, [chunk(task.lease, b"x")])

    # The server knows the days by heart and learns from the first refusal, or from its upkeep.
    assert await eventually(verdicts, lambda each: each == ["gone"]) == ["gone"]
    assert await own_api.report(session, [chunk(task.lease, b"x")], [exited(task.lease)]) == [
        "gone",
        "ok",
    ]
    over = await own_api.task(task.id)
    assert over.status == "succeeded"
    assert isinstance(over.logs, dict)
    assert over.logs["stdout"].state == "expired"
    reply = await own_api.call("GET", f"/tasks/{task.id}/logs")
    assert (reply.text, reply.headers["log-state"]) == ("", "expired")
    assert label


async def test_json_says_the_same_as_msgpack(api: Api) -> None:
    """For people with curl: one structure, two codecs, bytes in base64."""
    logs = []
    for kind in (MSGPACK, "application/json; charset=utf-8"):
        session, task = await api.started()
        sent: dict[str, Any] = {
            "session": session,
            "chunks": [
                chunk(task.lease, b"\xff\x00raw\n", at=1),
                chunk(task.lease, b"x") | {"content": b"?"},
            ],
            "results": [exited(task.lease, run_s=1.5)],
        }
        if kind == MSGPACK:
            body = msgspec.msgpack.encode(sent)
        else:
            body = msgspec.json.encode(sent)
            assert b64encode(b"?") in body
        first = await api.call("POST", "/reports", data=body, headers={"Content-Type": kind})
        sent["chunks"].pop()
        encode = msgspec.msgpack.encode if kind == MSGPACK else msgspec.json.encode
        second = await api.call(
            "POST", "/reports", data=encode(sent), headers={"Content-Type": kind}
        )
        logs.append((await api.call("GET", f"/tasks/{task.id}/logs?timestamps=iso")).body)
        logs.append(first.body)
        logs.append(second.body)
    assert logs[:3] == logs[3:]
    assert logs[0].endswith(b"Z \xff\x00raw\n")


async def test_many_agents_that_report_at_once_keep_their_verdicts(own_api: Api) -> None:
    """Their writes share statements; no verdict may land at another's item."""
    body = [{"command": "x", "needs": ["crowd"]} for _ in range(60)]
    assert (await own_api.post("/tasks", body)).status == 201
    session = await own_api.open("crowd")
    tasks = await own_api.claim(session, slots=60)
    assert len(tasks) == 60
    stored = tasks[::3]
    for task in stored:
        await own_api.report(session, [chunk(task.lease, f"of {task.id}\n".encode())])

    async def send(number: int) -> list[str]:
        task = tasks[number]
        data = f"of {task.id}\n".encode() if number % 6 else b"another\n"
        return await own_api.report(session, [chunk(task.lease, data)], [exited(task.lease)])

    verdicts = await asyncio.gather(*(send(number) for number in range(60)))
    for number, got in enumerate(verdicts):
        expected = ["ok", "ok"] if number % 3 else ["duplicate", "ok"]
        assert got == (["conflict", "conflict"] if number % 6 == 0 else expected), number
    for number, task in enumerate(tasks):
        assert await own_api.log(task.id) == f"of {task.id}\n"
        status = (await own_api.task(task.id)).status
        assert status == ("succeeded" if number % 6 else "in_progress")


async def test_an_empty_report_is_a_sign_of_life(api: Api) -> None:
    """Nothing to say is said in nothing."""
    session = await api.open()
    assert await api.report(session) == []


async def test_marks_order_both_streams(api: Api) -> None:
    """Chunks come in any order; what counts is when the lines were read."""
    session, task = await api.started()
    out = chunk(
        task.lease, b"1\n3\n5\n", marks=[(0, BASE_US + 10), (2, BASE_US + 30), (4, BASE_US + 50)]
    )
    err = chunk(
        task.lease, b"2\n4\n", stream="stderr", marks=[(0, BASE_US + 20), (2, BASE_US + 40)]
    )
    assert await api.report(session, [err, out]) == ["ok", "ok"]
    assert await api.log(task.id) == "1\n2\n3\n4\n5\n"
