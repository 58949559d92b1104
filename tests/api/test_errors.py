"""Bad input is a 4xx problem that names what is wrong: never a 5xx, never a lost neighbour."""

import gzip
import random
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.conftest import StartApi
from tests.api.server import MSGPACK, Api, exited

_NUL = "a\x00b"
_X: dict[str, Any] = {"command": "x"}

_BODIES: list[tuple[str, Any, int, tuple[str, ...]]] = [
    ("/tasks", {}, 400, ("command",)),
    ("/tasks", {"command": ""}, 400, ("$.command",)),
    ("/tasks", {"command": 5}, 400, ("$.command",)),
    ("/tasks", {"command": _NUL}, 400, ("$.command",)),
    ("/tasks", {"comand": "x"}, 400, ("comand",)),
    ("/tasks", [_X, _X | {"prio": 1}], 400, ("prio", "[1]")),
    ("/tasks", _X | {"priority": 10}, 400, ("$.priority",)),
    ("/tasks", _X | {"timeout": 0}, 400, ("$.timeout",)),
    ("/tasks", _X | {"no_output_timeout": 0}, 400, ("$.no_output_timeout",)),
    ("/tasks", _X | {"no_output_timeout": 31_536_001}, 400, ("$.no_output_timeout",)),
    ("/tasks", _X | {"max_attempts": 101}, 400, ("$.max_attempts",)),
    ("/tasks", _X | {"env": {"A=B": "x"}}, 400, ("$.env",)),
    ("/tasks", _X | {"env": {"A": _NUL}}, 400, ("$.env",)),
    ("/tasks", _X | {"secrets": {"A=B": "a secret"}}, 400, ("$.secrets", "'A=B'")),
    ("/tasks", _X | {"secrets": {"A": f"a secret{_NUL}"}}, 400, ("$.secrets", "'A' contains")),
    ("/tasks", _X | {"name": "a\nb"}, 400, ("$.name",)),
    ("/tasks", _X | {"name": "a\n"}, 400, ("$.name",)),
    ("/tasks", _X | {"group": ""}, 400, ("$.group",)),
    ("/tasks", _X | {"needs": ["a b"]}, 400, ("$.needs",)),
    ("/tasks", _X | {"needs": ["a\n"]}, 400, ("$.needs",)),
    ("/tasks", _X | {"needs": ["a,b"]}, 400, ("$.needs",)),
    ("/tasks", _X | {"needs": "a"}, 400, ("$.needs",)),
    ("/tasks", _X | {"needs": ["isolation=docker"]}, 400, ("$.needs", "field `isolation`")),
    ("/tasks", _X | {"isolation": "chroot"}, 400, ("$.isolation",)),
    ("/tasks", _X | {"image": ""}, 400, ("$.image",)),
    ("/tasks", _X | {"image": "--privileged"}, 400, ("$.image",)),
    ("/tasks", _X | {"image": "a b"}, 400, ("$.image",)),
    ("/tasks", [_X, _X | {"image": "a", "isolation": "bwrap"}], 400, ("$[1].isolation",)),
    ("/tasks", _X | {"key": ""}, 400, ("$.key",)),
    ("/tasks", _X | {"run_after": "tomorrow"}, 400, ("$.run_after",)),
    ("/tasks", _X | {"run_after": "2030-01-01T00:00:00"}, 400, ("needs a UTC offset",)),
    ("/tasks", [_X, _X | {"run_after": "2030-01-01T00:00:00"}], 400, ("$[1].run_after",)),
    ("/tasks", _X | {"run_after": "0001-01-01T00:00:00+10:00"}, 400, ("run_after",)),
    ("/tasks", _X | {"run_after": "9999-12-31T23:59:59-10:00"}, 400, ("run_after",)),
    ("/tasks", [_X] * 10_001, 413, ("10001", "10000")),
    ("/tasks", "text", 400, ("body",)),
    ("/tasks", None, 400, ("body",)),
    ("/tasks/98765/retry", {"after": 1}, 400, ("after",)),
    ("/tasks/98765/retry", {"after_attempt": 2**40}, 400, ("$.after_attempt",)),
    ("/sessions", {}, 400, ("agent",)),
    ("/sessions", {"agent": "a", "slots": 0}, 400, ("$.slots",)),
    ("/sessions", {"agent": _NUL}, 400, ("$.agent",)),
    ("/sessions", {"agent": "a", "labels": [_NUL]}, 400, ("$.labels",)),
    ("/sessions", {"agent": "a", "version": _NUL}, 400, ("$.version",)),
    ("/beats", {}, 400, ("session",)),
    ("/beats", {"session": "x", "wait": 61}, 400, ("$.wait",)),
    ("/beats", {"session": "x", "held": [[1]]}, 400, ("$.held",)),
    ("/beats", {"session": "nobody"}, 410, ("open a new one",)),
    ("/beats", {"session": "nobody", "wait": 5}, 410, ("open a new one",)),
    ("/claims", {"session": "x", "slots": 0}, 400, ("$.slots",)),
    ("/claims", {"session": "nobody"}, 410, ("open a new one",)),
    ("/claims", {"session": "nobody", "wait": 5}, 410, ("open a new one",)),
    ("/reports", {"session": "nobody"}, 410, ("open a new one",)),
    ("/reports", {"session": "x", "results": [{"lease": "x"}]}, 400, ("reason",)),
    ("/reports", {"session": "x", "results": [{"lease": "x", "reason": "?"}]}, 400, ("reason",)),
    ("/reports", {"session": "x", "chunks": [{"lease": "x", "stream": "stdout", "offset": 0,
                                              "content": "%"}]}, 400, ("$.chunks[0].content",)),
    ("/tasks/98765/logs", {"kind": "stdlog", "index": 0, "content": ""}, 400, ("$.kind",)),
    ("/tasks/98765/logs", {"kind": "stdout", "index": -1, "content": ""}, 400, ("$.index",)),
    ("/tasks/98765/logs", {"kind": "stdout", "index": 0, "content": ""}, 404, ("no task 98765",)),
    ("/tasks/98765/retry", {}, 404, ("no task 98765",)),
    ("/tasks/98765/cancel", {}, 404, ("no task 98765",)),
    ("/agents/nobody/drain", {}, 404, ("no live agent", "'nobody'")),
    ("/agents/%00/drain", {}, 404, ("no live agent",)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    _BODIES,
    ids=[f"{path} {str(body)[:60]!r}" for path, body, _, _ in _BODIES],
)
async def test_a_bad_body_is_named(
    api: Api, path: str, body: object, status: int, words: tuple[str, ...]
) -> None:
    """Whoever wrote it reads where it is wrong."""
    (await api.post(path, body)).problem(status, *words)


_PATHS: list[tuple[str, str, int, tuple[str, ...]]] = [
    ("GET", "/nowhere", 404, ("/nowhere", "/schema")),
    ("DELETE", "/tasks", 405, ()),
    ("GET", "/tasks/98765", 404, ("no task 98765",)),
    ("GET", "/tasks/0", 400, ("task_id",)),
    ("GET", "/tasks/x", 404, ("/tasks/x",)),
    ("GET", f"/tasks/{2**63}", 400, ("task_id",)),
    ("GET", f"/tasks/{'9' * 4000}", 400, ("task_id",)),
    ("GET", f"/tasks/{'9' * 5000}", 414, ("4096",)),
    ("GET", "/tasks?limit=0", 400, ("limit",)),
    ("GET", "/tasks?limit=x", 400, ("limit",)),
    ("GET", "/tasks?status=done", 400, ("status",)),
    ("GET", "/tasks?cursor=x", 400, ("cursor",)),
    ("GET", "/tasks?cursor=%C2%B2", 400, ("cursor",)),
    ("GET", f"/tasks?cursor={2**63}", 400, ("cursor",)),
    ("GET", f"/tasks?cursor={'9' * 5000}", 400, ("cursor",)),
    ("GET", f"/tasks?id={2**63}", 400, ("id",)),
    ("GET", f"/tasks?id={-(2**63) - 1}", 400, ("id",)),
    ("GET", "/tasks?id=5&id=0", 400, ("id",)),
    ("GET", "/tasks?id=x", 400, ("id",)),
    ("GET", "/tasks?name=a%00b", 400, ("name",)),
    ("GET", "/tasks?group=a%00b", 400, ("group",)),
    ("GET", "/tasks?agent=a%00b", 400, ("agent",)),
    ("GET", "/tasks/98765/logs", 404, ("no task 98765",)),
    ("GET", "/tasks/98765/logs?stream=stdlog", 400, ("stream",)),
    ("GET", "/tasks/98765/logs?offset=5", 400, ("stream",)),
    ("GET", "/tasks/98765/logs?offset=5&stream=stdout&tail=1", 400, ("tail",)),
    ("GET", "/tasks/98765/logs?tail=-1", 400, ("tail",)),
    ("GET", "/tasks/98765/logs?tail=10001", 400, ("tail",)),
    ("GET", "/tasks/98765/logs?timestamps=yes", 400, ("timestamps",)),
    ("GET", f"/tasks/98765/logs?attempt={2**31}", 400, ("attempt",)),
    ("GET", f"/tasks/98765/logs?grep={'x' * 1001}", 400, ("grep",)),
    ("GET", f"/tasks/98765/logs/lines?grep={'x' * 1001}", 400, ("grep",)),
    ("GET", f"/groups/nobody/logs?grep={'x' * 1001}", 400, ("grep",)),
    ("GET", f"/groups/{'x' * 5000}", 414, ("4096",)),
    ("GET", f"/groups/{'%2F' * 2000}", 414, ("4096",)),
    ("GET", f"/groups/nobody/logs/live?after={'x' * 40_000}", 414, ("32768",)),
    ("GET", "/groups/nobody", 404, ("nobody",)),
    ("GET", "/groups/a%00b", 404, ("group",)),
    ("PATCH", "/tasks/98765/status", 400, ("body",)),
]


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    _PATHS,
    ids=[f"{method} {path[:50]}" for method, path, _, _ in _PATHS],
)
async def test_a_bad_path_or_query_is_named(
    api: Api, method: str, path: str, status: int, words: tuple[str, ...]
) -> None:
    """People type addresses."""
    (await api.call(method, path)).problem(status, *words)


async def test_a_lone_surrogate_is_refused(api: Api) -> None:
    """JSON can write it, UTF-8 and PostgreSQL cannot."""
    for path, body in (
        ("/tasks", rb'{"command": "\ud800"}'),
        ("/sessions", rb'{"agent": "\udfff"}'),
        ("/beats", rb'{"session": "\ud800"}'),
        ("/tasks/98765/logs", rb'{"kind": "stdout", "index": 0, "content": "\ud800"}'),
    ):
        reply = await api.call("POST", path, data=body)
        reply.problem(400, "body")


async def test_bytes_that_are_no_utf8_are_refused(api: Api) -> None:
    """In JSON and in msgpack."""
    (await api.call("POST", "/tasks", data=b'{"command": "\xff"}')).problem(400)
    body = b"\x81\xa7session\xa2\xff\xfe"
    headers = {"Content-Type": MSGPACK}
    (await api.call("POST", "/reports", data=body, headers=headers)).problem(400)


async def test_too_many_labels_in_one_task_are_refused(api: Api) -> None:
    """A lane is found by an index whose entries have a largest size."""
    scattered = random.Random(1)
    needs = ["".join(scattered.choices("äöüßéèñçøå", k=200)) for _ in range(64)]
    (await api.post("/tasks", _X | {"needs": needs})).problem(400, "needs")


async def test_too_many_sets_of_needs_are_refused(start_api: StartApi) -> None:
    """Lanes are never deleted: a label for each task would slow every claim for ever."""
    async with start_api(max_lanes=2) as api:
        await api.submit(needs=["a"])
        await api.submit(needs=["b"])
        (await api.post("/tasks", _X | {"needs": ["c"]})).problem(422, "MAX_LANES", "2")
        await api.submit(needs=["b"])


async def test_one_bad_task_stores_none_of_the_array(api: Api) -> None:
    """All or none: whoever repairs and sends again must not run the good ones twice."""
    await api.submit(key="taken")
    many = [_X | {"group": "g"}, {"command": "other", "key": "taken", "group": "g"}]
    (await api.post("/tasks", many)).problem(409, "taken", "nothing was stored")
    (await api.call("GET", "/groups/g")).problem(404)


async def test_a_body_over_the_limit_is_refused(start_api: StartApi) -> None:
    """As received and as inflated: both name the limit."""
    async with start_api(max_body_bytes=4096) as api:
        body = msgspec.json.encode(_X | {"command": "x" * 5000})
        (await api.call("POST", "/tasks", data=body)).problem(413, "4096")
        headers = {"Content-Encoding": "gzip"}
        packed = gzip.compress(body)
        assert len(packed) < 4096
        reply = await api.call("POST", "/tasks", data=packed, headers=headers)
        reply.problem(413, "4096", "MAX_BODY_BYTES")
        (await api.call("POST", "/tasks", data=iter_(body))).problem(413, "4096")


async def test_each_limit_of_bodies_is_a_setting(start_api: StartApi) -> None:
    """A problem names the variable that whoever runs the server can change."""
    settings: dict[str, Any] = {
        "inflate_s": 1e-6, "max_tasks": 2, "max_json_values": 1000, "max_small_body_bytes": 1024,
    }  # fmt: skip
    async with start_api(**settings) as api:
        packed = gzip.compress(msgspec.json.encode(_X | {"command": " " * 600_000}))
        headers = {"Content-Encoding": "gzip"}
        reply = await api.call("POST", "/tasks", data=packed, headers=headers)
        reply.problem(413, "INFLATE_S")
        (await api.post("/tasks", [_X] * 3)).problem(413, "3 tasks", "MAX_TASKS")
        (await api.post("/tasks", [_X] * 600)).problem(413, "1000", "MAX_JSON_VALUES")
        beat = {"session": "x", "held": [[1, 1]] * 300}
        (await api.post("/beats", beat)).problem(413, "1024", "MAX_SMALL_BODY_BYTES")
        for path in ("/claims", "/sessions", "/tokens", "/tasks/98765/retry", "/groups/g/retry"):
            (await api.post(path, {"x": "x" * 2000})).problem(413, "MAX_SMALL_BODY_BYTES")


async def iter_(body: bytes) -> Any:
    """Send in pieces, without a length."""
    for at in range(0, len(body), 1000):
        yield body[at : at + 1000]


_PACKED = gzip.compress(b'{"command": "x"}', mtime=0)


@pytest.mark.parametrize(
    ("packed", "word"),
    [
        (b"not gzip at all", "gzip"),
        (_PACKED[:-3], "truncated"),
        (_PACKED * 2, "follows"),
        (_PACKED[:-8] + b"\0" * 8, "gzip"),
        (b"", "truncated"),
    ],
)
async def test_a_spoilt_gzip_body_is_named(api: Api, packed: bytes, word: str) -> None:
    """Legacy agents send gzip JSON."""
    headers = {"Content-Encoding": "gzip"}
    (await api.call("POST", "/tasks", data=packed, headers=headers)).problem(400, word)


async def test_an_unknown_encoding_or_type_is_named(api: Api) -> None:
    """Instead of a message about bad JSON."""
    headers = {"Content-Encoding": "br"}
    (await api.call("POST", "/tasks", data=b"x", headers=headers)).problem(415, "br", "gzip")
    headers = {"Content-Type": "text/plain"}
    (await api.call("POST", "/reports", data=b"x", headers=headers)).problem(415, "text/plain")


async def test_gzip_bodies_are_taken_everywhere(api: Api) -> None:
    """In any writing of the header."""
    for encoding in ("gzip", "GZIP", "x-gzip", "identity"):
        body = b'{"command": "x", "needs": ["nobody"]}'
        packed = body if encoding == "identity" else gzip.compress(body)
        headers = {"Content-Encoding": encoding}
        assert (await api.call("POST", "/tasks", data=packed, headers=headers)).status == 201


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
_field = st.sampled_from(
    ["command", "name", "group", "env", "cwd", "needs", "priority", "timeout", "max_attempts",
     "run_after", "exclusive", "key", "session", "agent", "labels", "slots", "held", "wait",
     "chunks", "results", "kind", "index", "content", "after_attempt", "cancelling", "replaces"]
)  # fmt: skip
_value = _json | st.sampled_from(
    [2**31, 2**63, 2**64, -1, 1e308, 1e-320, "\x00", "\ud7ff", "é" * 250, "2030-01-01T00:00:00Z",
     "0001-01-01T00:00:00+23:59", ["a", "a"], [[2**63, 1]], {"é": "\n"}]
)  # fmt: skip
_PLACES = [
    "/tasks",
    "/tasks/98765/retry",
    "/tasks/98765/logs",
    "/sessions",
    "/beats",
    "/claims",
    "/reports",
]


@given(
    path=st.sampled_from(_PLACES),
    body=st.dictionaries(_field, _value, max_size=5),
    valid=st.booleans(),
)
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_no_body_makes_the_server_fail(
    own_api: Api, path: str, body: dict[str, Any], *, valid: bool
) -> None:
    """Whatever JSON comes: an answer, or a problem with a 4xx status."""
    base: dict[str, Any] = {
        "/tasks": _X, "/sessions": {"agent": "a"}, "/beats": {"session": "x"},
        "/claims": {"session": "x"}, "/reports": {"session": "x"},
        "/tasks/98765/logs": {"kind": "stdout", "index": 0, "content": ""},
    }.get(path, {})  # fmt: skip
    reply = await own_api.post(path, base | body if valid else body)
    assert reply.status < 500, reply
    if reply.status >= 400:
        assert reply.problem(reply.status).detail


@given(
    body=st.binary(max_size=100),
    kind=st.sampled_from([MSGPACK, "application/json"]),
    packed=st.booleans(),
)
@settings(max_examples=100)
async def test_no_report_makes_the_server_fail(
    api: Api, body: bytes, kind: str, *, packed: bool
) -> None:
    """Any bytes, in any clothes."""
    headers = {"Content-Type": kind} | ({"Content-Encoding": "gzip"} if packed else {})
    reply = await api.call("POST", "/reports", data=body, headers=headers)
    assert 400 <= reply.status < 500, reply
    assert reply.problem(reply.status).detail


async def test_text_that_postgresql_cannot_store_is_still_taken(api: Api) -> None:
    """A NUL in a message must not lose the result, nor its neighbour's."""
    session, one = await api.started()
    other_session, other = await api.started()
    results = [
        exited(one.lease, 1, message="a\x00b", run_s=1e9),
        exited(other.lease),
    ]
    assert await api.report(session, [], results) == ["ok", "ok"]
    assert (await api.task(one.id)).message == "a\ufffdb"
    assert (await api.task(other.id)).status == "succeeded"
    assert await api.claim(other_session) == []
