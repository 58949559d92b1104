"""Logs to upload: deterministic, compressed once, and yet different for each chunk.

Compressing in a Locust user would hold up all others, and sending the same bytes everywhere would
hide a chunk that lands in the wrong log. So each chunk gets a line of its own in front: a stored
block of deflate, which costs no compressing, joined to the finished stream of the payload.
"""

import json
import random
import struct
import zlib
from functools import cache

from isal import isal_zlib
from msgspec import Struct

from schema.tasks import Stream

_LEVEL = 6  # real: 512 KiB become 134 KB, as in the measurements that the design stands on
_GZIP_HEAD = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
_SEED_LINE = b"10-12 08:15:42.123  1234  1250 I TestRunner: started: test_login_with_valid_user\n"


class Payload(Struct, frozen=True):
    """Whole lines, ready to be sent on every route."""

    name: str
    data: bytes
    """Each line ended by a newline."""
    deflated: bytes
    """`data` as a raw deflate stream."""
    json_tail: bytes
    """`data` without its last newline as the inside of a JSON string, and the end of an object."""
    json_deflated: bytes


def seed(size: int) -> Payload:
    """One line, repeated."""
    return _payload(f"seed {size}", (_SEED_LINE * (size // len(_SEED_LINE) + 1))[: size - 1])


def real(size: int) -> Payload:
    """Varied lines as a device's log has them; 512 KiB compress to some 134 KB."""
    return _payload(f"real {size}", _real_bytes(size))


def few_lines(lines: int) -> Payload:
    """What a quiet task writes between two reports."""
    return _payload(f"{lines} lines", b"\n".join(_real_bytes(lines * 400).split(b"\n")[:lines]))


def member(head: bytes, payload: Payload) -> bytes:
    """One gzip member that holds `head` (at most 65,535 bytes) and the payload."""
    return _joined(head, payload.data, payload.deflated)


def compatible_body(kind: Stream, index: int, head: bytes, payload: Payload) -> bytes:
    """Gzipped body of `POST /tasks/{id}/logs`. `head` is one line, ended by a newline."""
    text = json.dumps({"kind": kind, "index": index, "content": head.decode()})
    return _joined(text.removesuffix('"}').encode(), payload.json_tail, payload.json_deflated)


def _joined(head: bytes, rest: bytes, deflated_rest: bytes) -> bytes:
    crc = isal_zlib.crc32(rest, isal_zlib.crc32(head))
    stored = b"\0" + struct.pack("<HH", len(head), len(head) ^ 0xFFFF) + head
    trailer = struct.pack("<II", crc, len(head) + len(rest))
    return b"".join((_GZIP_HEAD, stored, deflated_rest, trailer))


def _payload(name: str, data: bytes) -> Payload:
    whole = data.removesuffix(b"\n")
    tail = json.dumps(whole.decode()).encode()[1:-1] + b'"}'
    return Payload(name, whole + b"\n", _deflate(whole + b"\n"), tail, _deflate(tail))


def _deflate(data: bytes) -> bytes:
    deflater = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    return deflater.compress(data) + deflater.flush()


_TAGS = (
    "ActivityManager", "TestRunner", "OkHttp", "chromium", "SurfaceFlinger", "Unity", "dalvikvm",
    "NetworkController", "GameLoop", "WebDriver", "Espresso", "InputDispatcher",
)  # fmt: skip
_WORDS = (
    "frame", "request", "texture", "element", "session", "dropped", "visible", "timeout", "render",
    "click", "assert", "buffer", "scene", "latency", "cache", "loaded", "widget", "retry",
    "locator", "screenshot", "viewport", "shader", "stable", "pending", "matched", "expected",
)  # fmt: skip


@cache
def _real_bytes(size: int) -> bytes:
    dice = random.Random(20)
    lines: list[str] = []
    total = 0
    clock_ms = 29_742_123
    while total <= size:
        clock_ms += dice.randrange(40)
        seconds, ms = divmod(clock_ms, 1000)
        said = " ".join(dice.choices(_WORDS, k=dice.randrange(3, 9)))
        lines.append(
            f"10-12 {seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{ms:03}"
            f" {dice.choice((1234, 2210, 871)):5} {dice.choice((1250, 2231, 880, 1300)):5}"
            f" {dice.choice('DIIIWE')} {dice.choice(_TAGS)}: {said} id={dice.getrandbits(60):015x}"
            f" took {dice.randrange(50_000)} us"
        )
        total += len(lines[-1]) + 1
    return ("\n".join(lines) + "\n").encode()[: size - 1]
