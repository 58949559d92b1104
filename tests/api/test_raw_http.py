"""Requests as no client writes them, byte by byte, to the real server with its workers.

Each is answered with a status below 500 or cut off, holds nobody up, leaves the workers alive, and
does nothing that it was not allowed to.
"""

import re
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.api import wire
from tests.api.test_real_server import Running, started
from tests.api.wire import head, post, statuses, talk
from tests.conftest import _database

_X = b'{"command": "true", "needs": ["nobody"]}'
_SMUGGLED = post("/tasks", b'{"command": "true", "needs": ["nobody"], "name": "smuggled"}')
_HOST = b"Host: localhost"
_AUTH = f"Host: localhost\r\nAuthorization: Bearer {wire.TOKEN}\r\n".encode()
_GET = head("GET", "/tasks?limit=1")
_KEPT = b"GET /tasks?limit=1 HTTP/1.1\r\n" + _AUTH + b"\r\n"
_REFUSED = frozenset({400, 404, 405, 408, 413, 414, 415, 431, 501})
_CUT: frozenset[int] = frozenset()


@pytest.fixture(scope="module")
async def real(cluster: str, template: str) -> AsyncIterator[Running]:
    """Start one server, with tokens and short patience."""
    with tempfile.TemporaryDirectory() as folder:
        async with (
            _database(cluster, template) as url,
            started(
                url, Path(folder), TOKEN=wire.TOKEN, HEADER_S="0.5", BODY_S="2", BODY_PAUSE_S="0.4"
            ) as one,
        ):
            one.api.http.headers["Authorization"] = f"Bearer {wire.TOKEN}"
            yield one


def _chunked(*chunks: bytes, headers: tuple[str, ...] = (), end: bytes = b"0\r\n\r\n") -> bytes:
    body = b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in chunks)
    return head("POST", "/tasks", "Transfer-Encoding: chunked", *headers) + body + end


def _json(text: str, path: str = "/tasks") -> bytes:
    return post(path, text.encode("utf-8", "surrogatepass"))


# name, what is sent, statuses that may come; empty: cut off without a word
_CASES: list[tuple[str, bytes, frozenset[int] | set[int]]] = [
    # types and encodings
    ("a picture that is JSON", post("/tasks", _X, "Content-Type: image/png"), {201}),
    ("two types", post("/tasks", _X, "Content-Type: a/b", "Content-Type: c/d"), {201}),
    ("a type of no form", post("/reports", _X, "Content-Type: ;;;"), {415}),
    ("UTF-16 by its type", post("/reports", _X, "Content-Type: application/json; charset=utf-16"),
     {400}),
    ("UTF-16 indeed", post("/tasks", _X.decode().encode("utf-16")), {400}),
    ("a byte order mark", post("/tasks", b"\xef\xbb\xbf" + _X), {400}),
    *[
        (f"encoding {name!r}", post("/tasks", _X, f"Content-Encoding: {name}"), {415})
        for name in ("br", "deflate", "zstd", "gzip, gzip", "gzip;q=1", "\xff", "x" * 5000)
    ],
    ("two encodings", post("/tasks", _X, "Content-Encoding: gzip", "Content-Encoding: br"), {400}),
    # text
    ("a lone surrogate", post("/tasks", rb'{"command": "\ud800"}'), {400}),
    ("an encoded surrogate", _json('{"command": "\ud800"}'), {400}),
    ("an escaped NUL", post("/tasks", rb'{"command": "a\u0000b"}'), {400}),
    ("a raw NUL", post("/tasks", b'{"command": "a\0b"}'), {400}),
    ("a NUL in a variable", post("/tasks", rb'{"command": "x", "env": {"a": "\u0000"}}'), {400}),
    ("overlong UTF-8", post("/tasks", b'{"command": "\xc0\xaf"}'), {400}),
    ("no UTF-8 in a path", head("GET", "/groups/%ff%fe"), {404}),
    ("no UTF-8 in a query", head("GET", "/tasks?name=%ff%fe"), {200}),
    ("a surrogate in a path", head("GET", "/groups/%ED%A0%80"), {404}),
    ("a NUL in a path", head("GET", "/groups/%00"), {404}),
    ("a NUL in a query", head("GET", "/tasks?group=%00"), {400}),
    ("bare bytes in a target", head("GET", "/tasks?name=\xff"), {200, 400}),
    ("bare NUL in a target", head("GET", "/tasks\0"), {400}),
    ("bytes in a header", head("GET", "/tasks", "X: \xff\xfe"), {200}),
    ("NUL in a header", head("GET", "/tasks", "X: \0"), {400}),
    # numbers
    *[
        (f"priority {text[:20]}", _json(f'{{"command": "x", "priority": {text}}}'), {400})
        for text in ("NaN", "Infinity", "-Infinity", "1e999", "-0.5", str(2**63), str(2**64),
                     str(-(2**63) - 1), "1" + "0" * 400, "1" * 5000, "0x5", "05", "1.", "--1")
    ],
    *[
        (f"timeout {text[:20]}", _json(f'{{"command": "x", "timeout": {text}}}'), {400})
        for text in ("NaN", "Infinity", "1e999", "1e-9999", "0.0", str(2**64), "9" * 5000)
    ],
    *[
        (f"held {text[:20]}", _json(f'{{"session": "x", "held": [[{text}, 1]]}}', "/beats"),
         {400, 410})
        for text in (str(2**63), str(-(2**63) - 1), "9" * 400, "1e3", "1.5")
    ],
    *[
        (f"id {text[:20]}", head("GET", f"/tasks?id={text}"), {400})
        for text in (str(2**63), "-1", str(-(2**63)), str(-(2**64)), "9" * 5000, "1.5", "%C2%B2")
    ],
    *[
        (f"cursor {text[:20]}", head("GET", f"/{path}?cursor={text}"), {400})
        for text in (str(2**63), "-1", "9" * 5000, "%00", "") for path in ("tasks", "audit")
    ],
    *[
        (f"task {text[:20]}", head("GET", f"/tasks/{text}{more}"), {400, 404})
        for text in ("0", "-1", str(2**63), "9" * 4000, "1.0", "1_0", "1e3")
        for more in ("", "/logs", "/logs.gz?stream=stdout")
    ],
    ("duplicate keys", _json('{"command": "x", "needs": ["nobody"], "command": "y"}'), {201}),
    ("deep arrays", post("/tasks", b"[" * 100_000), {400}),
    ("deep unknown objects", post("/beats", b'{"session": "x", "y": ' + b'{"a":' * 100_000), {400}),
    ("deep msgpack", post("/reports", b"\x81\xa1y" + b"\x91" * 100_000,
                          "Content-Type: application/msgpack"), {400}),
    ("a msgpack array of four thousand million",
     post("/reports", b"\x82\xa7session\xa1x\xa6chunks\xdd\xff\xff\xff\xff",
          "Content-Type: application/msgpack"), {400}),
    ("msgpack NaN", post("/reports", b"\x82\xa7session\xa1x\xa7results\x91\x83\xa5lease\xa1x"
                         b"\xa6reason\xa4exit\xa5run_s\xcb\x7f\xf8\0\0\0\0\0\0",
                         "Content-Type: application/msgpack"), {400, 410}),
    # lengths and chunks
    ("chunks", _chunked(_X[:10], _X[10:]), {201}),
    ("chunks of one byte", _chunked(*(_X[at : at + 1] for at in range(len(_X)))), {201}),
    ("chunks with trailers", _chunked(_X, end=b"0\r\nX: y\r\n\r\n"), {201}),
    ("too many trailers", _chunked(_X, end=b"0\r\n" + b"X: y\r\n" * 20_000 + b"\r\n"), _REFUSED),
    ("a chunk's size of no number", _chunked(_X, end=b"zz\r\n\r\n"), _REFUSED),
    ("a chunk's size beyond 64 bits", _chunked(end=b"f" * 17 + b"\r\n"), _REFUSED),
    ("a chunk's size below zero", _chunked(end=b"-5\r\nabcde\r\n0\r\n\r\n"), _REFUSED),
    ("a chunk longer than it says", _chunked(end=b"3\r\nabcde\r\n0\r\n\r\n"), _REFUSED),
    ("a chunk cut short", _chunked(end=b"ff\r\nabc"), _REFUSED),
    ("no last chunk", _chunked(_X, end=b""), _REFUSED),
    ("an endless extension", _chunked(end=b"5;" + b"x" * 100_000), _REFUSED),
    ("a body cut short", post("/tasks", _X)[:-5], _REFUSED),
    ("a body cut off", post("/tasks", _X)[: -len(_X)], _REFUSED),
    ("no length at all", head("POST", "/tasks"), {400}),
    *[
        (f"length {text[:20]}", head("POST", "/tasks", f"Content-Length: {text}") + _X, _REFUSED)
        for text in ("-1", "+5", "5, 6", "0x28", "", " ", "ten", str(2**63), str(2**64), "9" * 400)
    ],
    ("a length of too much", head("POST", "/tasks", f"Content-Length: {2**62}") + _X, _REFUSED),
    ("two lengths", head("POST", "/tasks", "Content-Length: 40", "Content-Length: 5") + _X,
     _REFUSED),
    # smuggling
    ("length and chunks", _chunked(_X, headers=("Content-Length: 4",)) + _SMUGGLED,
     _REFUSED | {201}),
    ("length, then chunks",
     head("POST", "/tasks", "Content-Length: 4", "Transfer-Encoding: chunked")
     + b"0\r\n\r\n" + _SMUGGLED, _REFUSED),
    *[
        (f"coding {line[:30]!r}", head("POST", "/tasks", line, "Content-Length: 5") + b"0\r\n\r\n"
         + _SMUGGLED, _REFUSED)
        for line in ("Transfer-Encoding: xchunked", "Transfer-Encoding : chunked",
                     "Transfer-Encoding: chunked, identity", "Transfer-Encoding: gzip",
                     "Transfer-Encoding:\x0bchunked", "X: y\r\n Transfer-Encoding: chunked")
    ],
    ("coding twice", _chunked(_X, headers=("Transfer-Encoding: identity",)) + _SMUGGLED, _REFUSED),
    ("a folded header", head("GET", "/tasks", "X: a\r\n b"), {400}),
    ("bare newlines", _GET.replace(b"\r\n", b"\n"), {200, 400}),
    ("bare returns", _GET.replace(b"\r\n", b"\r"), _REFUSED),
    ("a newline in a header", head("GET", "/tasks", "X: a\nY: b"), {200, 400}),
    ("a request behind one that closes", _GET + _SMUGGLED, {200}),
    # paths
    *[
        (f"path {target[:40]}", head("GET", target), {404})
        for target in ("/../tasks", "/tasks/..", "/%2e%2e/tasks", "/tasks/%2e%2e/tokens",
                       "/./tasks", "/tasks%00", "/tasks;x=1", "/TASKS", "/tasks/1/../2/logs")
    ],
    *[
        (f"path {target[:40]}", head("GET", target), {200})
        for target in ("//tasks", "/tasks/", "///tasks///", "/%74asks", "http://other/tasks",
                       "/tasks#x", "tasks", "other:80")
    ],
    *[
        (f"target {target[:40]!r}", head("GET", target), _REFUSED)
        for target in ("", "*", "/a b", "http://", "\\tasks")
    ],
    ("a token and slashes", head("POST", f"/t/{wire.TOKEN}//tasks/pull"), {403}),
    ("a token in the path alone", b"POST /t/x//tasks HTTP/1.1\r\nHost: localhost\r\n\r\n", {401}),
    ("an event's id of no form",
     head("GET", "/groups/g/logs/live", "Last-Event-ID: \xff\xfe" + "A" * 50_000), {404}),
    ("an event's id without end",
     head("GET", "/groups/g/logs/live", "Last-Event-ID: " + "A" * 500_000), {400, 431}),
    ("a long path", head("GET", "/groups/" + "a" * 5000), {414}),
    ("a very long path", head("GET", "/" + "a" * 60_000), {414, 431}),
    ("a path without end", head("GET", "/" + "a" * 500_000), {400, 414, 431}),
    ("a long query", head("GET", "/tasks?id=" + "1" * 40_000), {414}),
    ("many parameters", head("GET", "/tasks?" + "id=1&" * 6000), {400}),
    ("parameters of no name", head("GET", "/tasks?" + "&=" * 10_000), {200}),
    # methods and heads
    *[
        (f"method {method[:20]}", head(method, "/tasks"), {405})
        for method in ("HEAD", "DELETE", "PUT", "TRACE", "FOO", "get", "X" * 50)
    ],
    ("OPTIONS", head("OPTIONS", "/tasks"), {204}),
    *[
        (f"method {method[:20]!r}", head(method, "/tasks"), _REFUSED)
        for method in ("G@T", "", "G\0T", "X" * 70_000, "CONNECT")
    ],
    ("a long header", head("GET", "/tasks", "X: " + "x" * 50_000), {200}),
    ("a header without end", head("GET", "/tasks", "X: " + "x" * 500_000), {400, 431}),
    ("many headers", head("GET", "/tasks", *["X: y"] * 10_000), {400, 431}),
    ("a header of no name", head("GET", "/tasks", ": y"), {400}),
    ("a header of no colon", head("GET", "/tasks", "X"), {400}),
    ("two hosts", head("GET", "/tasks", "Host: y"), {200, 400}),
    ("a host of no form", head("GET", "/nowhere").replace(_HOST, b"Host: ["), {400, 404}),
    ("a host of no form on a hot route",
     post("/tasks", _X).replace(_HOST, b"Host: [::\xff"), {201, 400}),
    ("no host", _GET.replace(_HOST + b"\r\n", b""), {200, 400}),
    ("cookies of backslashes", b"GET /tasks HTTP/1.1\r\n" + _HOST + b"\r\nConnection: close\r\n"
     b'Cookie: dw_login="' + b"\\" * 60_000 + b'"\r\n\r\n', {401}),
    ("an unknown token", _GET.replace(wire.TOKEN.encode(), b"dw_" + b"x" * 60_000), {401}),
    ("HTTP 1.0", _GET.replace(b"HTTP/1.1", b"HTTP/1.0"), {200}),
    ("HTTP 0.9", b"GET /tasks\r\n\r\n", _REFUSED),
    ("HTTP 2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0" * 100, _CUT | _REFUSED),
    ("HTTP 9", _GET.replace(b"HTTP/1.1", b"HTTP/9.9"), _REFUSED),
    ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x55" * 600, _REFUSED),
    ("an upgrade to a socket",
     head("GET", "/tasks", "Upgrade: websocket", "Sec-WebSocket-Key: eA=="), {200}),
    ("an upgrade to HTTP 2", head("GET", "/tasks", "Upgrade: h2c", "HTTP2-Settings: AA"), {200}),
    ("continue", post("/tasks", _X, "Expect: 100-continue"), {201}),
    ("expects nonsense", post("/tasks", _X, "Expect: nonsense"), {201, 417}),
    ("nothing", b"", _CUT),
    ("newlines", b"\r\n" * 50_000, _CUT | _REFUSED),
    ("zeros", b"\0" * 100_000, _REFUSED),
]  # fmt: skip


@pytest.mark.parametrize(
    ("sent", "good"), [case[1:] for case in _CASES], ids=[case[0] for case in _CASES]
)
async def test_no_bytes_break_the_server(
    real: Running, sent: bytes, good: frozenset[int] | set[int]
) -> None:
    """An answer below 500, or the end of the connection; never half of somebody else's request."""
    received = await talk(real.port, sent)
    answered = [each for each in statuses(received) if each != 100]
    assert len(answered) <= 1, received
    assert set(answered) <= good, received[:500]
    may_be_cut = not good or good >= _REFUSED
    assert answered or may_be_cut


async def test_nothing_was_smuggled_and_nobody_died(real: Running) -> None:
    """After all of the above: no request was made out of another one's body."""
    before = {each.pid for each in wire.workers(real)}
    for _, sent, _ in _CASES:
        await talk(real.port, sent)
    tasks = await real.api.call("GET", "/tasks?name=smuggled")
    assert tasks.body == b'{"tasks":[],"next":null}'
    assert {each.pid for each in wire.workers(real)} == before
    await wire.serves(real)


@pytest.mark.parametrize("number", [2, 1000])
async def test_pipelined_requests_are_answered_in_order(real: Running, number: int) -> None:
    """Proxies do it; each gets its own answer."""
    asked = [f"GET /tasks/{10**6 + at} HTTP/1.1\r\n".encode() + _AUTH + b"\r\n"
             for at in range(number)]  # fmt: skip
    received = await talk(real.port, b"".join(asked) + _GET)
    assert statuses(received) == [404] * number + [200]
    told = [int(each) for each in re.findall(rb"there is no task (\d+)", received)]
    assert told == [10**6 + at for at in range(number)]


async def test_a_pipelined_request_behind_a_refused_body_is_not_served(real: Running) -> None:
    """Where the body's end is not known, nothing behind it can be trusted."""
    large = head("POST", "/beats", f"Content-Length: {2**24}").replace(
        b"Connection: close\r\n", b""
    )
    received = await talk(real.port, large + b"x" * (2**20 + 100) + _SMUGGLED)
    assert statuses(received) == [413]


async def test_neighbours_do_not_notice(real: Running) -> None:
    """While all of these come in again and again, small requests of others take no time."""
    async with wire.watched(real) as toll:
        for _, sent, _ in _CASES:
            if len(sent) > 100:
                await talk(real.port, sent)
    print(f"\n{len(_CASES)} odd requests: {toll}")
    assert toll.slowest_s < 1
    assert toll.grown_mib < 100
