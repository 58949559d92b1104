"""What the decoders must do with any bytes: each function takes some, and asserts.

`tests/unit/test_decoders.py` feeds them by hypothesis, `tests/fuzz_decoders.py` by atheris.
"""

import zlib
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from functools import partial
from itertools import pairwise
from typing import Any
from unittest.mock import Mock

import msgspec

from api import cookies, members
from api.log_limit import Beyond, CutMarks
from api.members import BadGzipError
from api.problems import ProblemError
from api.reports import Received, Reports
from api.routes.tasks import NO_CURSOR, below_cursor
from schema import lease, marks
from schema.lease import BadLeaseError, Lease
from schema.marks import BadMarksError
from schema.reports import MAX_CHUNK_BYTES, Report, Verdict

KEY = b"k" * 32
LEASE = lease.sign(Lease(17, 2, date(2026, 3, 1), 5), KEY)
_MOST = 100_000
_MOST_LOG = 2**40
_BAD_BODY = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_reports = Reports(Mock(), KEY, CutMarks(1), max_log_bytes=_MOST_LOG, inflate_s=10)
_json = _reports.decoder(msgspec.json.Decoder(Report))
_msgpack = _reports.decoder(msgspec.msgpack.Decoder(Report))


def gzip_member(data: bytes) -> None:
    """Zlib is the judge: what it takes for one whole member is counted so, all else refused."""
    judge = zlib.decompressobj(31)
    plain: bytes | None = None
    with suppress(zlib.error):
        plain = judge.decompress(data, _MOST + 1)
        if not judge.eof or judge.unused_data or len(plain) > _MOST:
            plain = None
    measured = None
    with suppress(BadGzipError):
        measured = members.measure(data, _MOST)
    if plain is None:
        assert measured is None, measured
        return
    assert measured is not None
    assert (measured.size, measured.lines) == (len(plain), plain.count(b"\n"))
    assert measured.crc == zlib.crc32(plain)
    assert members.inflate(data, _MOST) == plain


def marks_of_a_chunk(data: bytes) -> None:
    """Read or refused; what is taken as true, readers can rely on."""
    with suppress(BadMarksError):
        read = marks.decode(data)
        assert all(later[0] >= earlier[0] for earlier, later in pairwise(read))
        marks.check(read, 1000)
        assert marks.decode(marks.encode(read)) == read


def lease_text(data: bytes) -> None:
    """Nothing but what was signed is a lease."""
    text = data.decode("utf-8", "surrogateescape")
    with suppress(BadLeaseError):
        proof = lease.verify(text, KEY)
        assert lease.sign(proof, KEY) == text


def _report(decode: Callable[[bytes], Received], data: bytes) -> None:
    with suppress(*_BAD_BODY):
        received = decode(data)
        assert len(received.chunks) == len(received.report.chunks)
        for sent, chunk in zip(received.report.chunks, received.chunks, strict=True):
            if isinstance(chunk, Verdict):
                assert chunk.verdict == "invalid"
                assert chunk.why
            elif isinstance(chunk, Beyond):
                assert sent.offset > _MOST_LOG - MAX_CHUNK_BYTES
            else:
                assert (chunk.task, chunk.attempt) == (17, 2)
                assert chunk.position == sent.offset < _MOST_LOG
                assert 0 < chunk.size == len(zlib.decompress(sent.content, 31))
        for result in received.report.results:
            ended = _reports._ended(result, set())
            assert isinstance(ended, Verdict) or (ended.task, ended.attempt) == (17, 2)


report_msgpack = partial(_report, _msgpack.decode)
report_json = partial(_report, _json.decode)


def cursor(data: bytes) -> None:
    """A number that the database has, or a problem."""
    text = data.decode("utf-8", "replace")
    try:
        assert 0 <= below_cursor(text) <= NO_CURSOR
    except ProblemError as error:
        assert error.status_code == 400  # noqa: PT017 - that it fails is fine, not how


def cookie(data: bytes) -> None:
    """Nobody's, unless it is ours."""
    login = cookies.read(data)
    assert login is None or not login.proves(KEY, b"d" * 32, 1e12)


CHECKS: dict[str, Callable[[bytes], Any]] = {
    "gzip": gzip_member,
    "marks": marks_of_a_chunk,
    "lease": lease_text,
    "msgpack": report_msgpack,
    "json": report_json,
    "cursor": cursor,
    "cookie": cookie,
}


def examples() -> dict[str, list[bytes]]:
    """Good ones, to begin with."""
    times = marks.encode([(0, 1_767_225_600_000_000), (4, 1_767_225_600_000_900)])
    chunk = {
        "lease": LEASE, "stream": "stdout", "offset": 7, "content": members.deflate(b"one\ntwo\n"),
        "marks": times,
    }  # fmt: skip
    total = {"bytes": 8, "crc": 1}
    result = {"lease": LEASE, "reason": "exit", "exit_code": 0, "stdout": total, "run_s": 1.5}
    report = {"session": "s", "chunks": [chunk, chunk], "results": [result]}
    return {
        "gzip": [members.deflate(b"line\n" * 300), zlib.compress(b"", wbits=31), *_with_headers()],
        "marks": [times],
        "lease": [LEASE.encode()],
        "msgpack": [msgspec.msgpack.encode(report)],
        "json": [msgspec.json.encode(report)],
        "cursor": [b"17", str(NO_CURSOR).encode()],
        "cookie": [b"a=b; dw_login=" + cookies.seal(KEY, "17", b"d" * 32, 1).encode()],
    }  # fmt: skip


def _with_headers() -> list[bytes]:
    """Members with a name, a comment, extra fields and a CRC of the header."""
    plain = zlib.compress(b"x" * 50, wbits=31)
    head, rest = plain[:3], plain[4:10]
    fields = {2: b"", 4: b"\x02\x00ab", 8: b"name\0", 16: b"comment\0"}
    members = []
    for flags in (4, 8, 16, 2, 30):
        header = head + bytes([flags]) + rest
        header += b"".join(field for flag, field in fields.items() if flags & flag)
        crc = (zlib.crc32(header) & 0xFFFF).to_bytes(2, "little") if flags & 2 else b""
        members.append(header + crc + plain[10:])
    return members
