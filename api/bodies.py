"""Request bodies and gzip members, in bounded memory."""

import asyncio
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any, Protocol, TypeVar

import msgspec
from isal import igzip_lib, isal_zlib
from litestar import Request

from api.problems import ProblemError

_GZIP = 31  # window bits: a gzip member, its trailer checked
_STEP = 262_144  # 7 % faster than 64 KiB: the thread gives up and takes the GIL less often
_BODY_S = 120.0  # as long as agents take: what never arrives must not hold memory for ever
INLINE_BYTES = 32_768
"""Up to here a thread costs more than it brings: 150 µs under load, as both want the GIL."""

_threads = ThreadPoolExecutor(len(os.sched_getaffinity(0)), "bodies")

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class BadGzipError(ValueError):
    """Not exactly one whole gzip member, or one that inflates to too much."""


class Decoder(Protocol[T_co]):
    """msgspec's decoders."""

    def decode(self, buf: bytes, /) -> T_co:
        """Raise msgspec.DecodeError or msgspec.ValidationError."""


class Measured(msgspec.Struct, frozen=True, gc=False):
    """What a gzip member holds."""

    size: int
    lines: int
    crc: int


def _pieces(member: bytes, most: int) -> Iterator[bytes]:
    """Inflate in steps, so that no buffer grows; checks the member's CRC-32 and length."""
    inflater = igzip_lib.IgzipDecompressor(igzip_lib.DECOMP_GZIP)
    total = 0
    data = member
    try:
        while not inflater.eof:
            piece = inflater.decompress(data, _STEP)
            if not piece and not inflater.eof:
                raise BadGzipError("the gzip member is cut short")
            total += len(piece)
            if total > most:
                raise BadGzipError(f"inflates to more than {most} bytes")
            yield piece
            data = b""  # it keeps what it has not used
    except igzip_lib.IsalError as error:  # type: ignore[misc]  # its stub declares an instance
        raise BadGzipError(f"not gzip: {error}") from None
    if inflater.unused_data:
        raise BadGzipError("something follows the first gzip member")


def count_lines(data: bytes) -> int:
    """Newlines; half the time of `bytes.count`, which looks at each byte by itself."""
    return len(data) - len(data.replace(b"\n", b""))


def measure(member: bytes, most: int) -> Measured:
    """Count a member's bytes and newlines, and check its CRC-32; BadGzipError."""
    total = lines = 0
    for piece in _pieces(member, most):
        total += len(piece)
        lines += count_lines(piece)
    return Measured(total, lines, crc_of(member))


def crc_of(member: bytes) -> int:
    """CRC-32 of a sound member's bytes, which it says itself."""
    return int.from_bytes(member[-8:-4], "little")


def inflate(member: bytes, most: int) -> bytes:
    """A member's bytes, at most `most` of them; BadGzipError."""
    return b"".join(_pieces(member, most))


def deflate(data: bytes) -> bytes:
    """One gzip member."""
    deflater = isal_zlib.compressobj(1, isal_zlib.DEFLATED, _GZIP)
    return deflater.compress(data) + deflater.flush()


def header(request: Request[Any, Any, Any], name: bytes) -> str:
    """One header in small letters, empty where there is none; `request.headers` is slow to make."""
    for each, value in request.scope["headers"]:
        if each == name:
            return value.decode("latin-1").lower()
    return ""


async def read(
    request: Request[Any, Any, Any], most: int, setting: str = " (MAX_BODY_BYTES)"
) -> bytes:
    """The body as it comes, of at most `most` bytes; a 4xx problem, which names the setting."""
    try:
        async with asyncio.timeout(_BODY_S):
            return await _receive(request, most, setting)
    except TimeoutError:
        raise ProblemError(
            HTTPStatus.REQUEST_TIMEOUT, f"the body did not arrive within {_BODY_S:.0f} s"
        ) from None


def _announced(request: Request[Any, Any, Any]) -> int:
    """Bytes of the body as its header has them; -1 where it comes in pieces, or there is none."""
    length = -1
    for name, value in request.scope["headers"]:
        if name == b"transfer-encoding":
            return -1
        if name == b"content-length" and value.isdigit():
            length = int(value)
    return length


async def _receive(request: Request[Any, Any, Any], most: int, setting: str) -> bytes:
    parts: list[bytes] = []
    size = 0
    announced = _announced(request)
    while True:
        message = await request.receive()
        if message["type"] != "http.request":
            raise ProblemError(HTTPStatus.BAD_REQUEST, "the body broke off")
        parts.append(message["body"])
        size += len(message["body"])
        if size > most:
            raise ProblemError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"the body is larger than {most} bytes{setting}",
            )
        # Granian tells the end in a message of its own: to wait for that too cost 30 of the 300 us
        # of a beat.
        if size == announced or not message.get("more_body"):
            return parts[0] if len(parts) == 1 else b"".join(parts)


async def decoded(
    request: Request[Any, Any, Any], decoder: Decoder[T], most: int, *, without: T | None = None
) -> T:
    """The body as `decoder` reads it, of at most `most` bytes before and after inflating.

    A 4xx problem says what is wrong, and where. `without` stands for an empty body, where there may
    be none. Large bodies are inflated and decoded in a thread; how large one is that comes as gzip
    it says itself, and where it lies the event loop waits for it.
    """
    body = await read(request, most)
    encoding = header(request, b"content-encoding")
    if encoding not in {"", "identity", "gzip", "x-gzip"}:
        raise ProblemError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"Content-Encoding {encoding!r}: send gzip or none"
        )

    plainly = encoding in {"", "identity"}
    size = len(body) if plainly else max(len(body), int.from_bytes(body[-4:], "little"))

    def work() -> T:
        plain = body if plainly else inflate(body, most)
        return without if not plain and without is not None else decoder.decode(plain)

    try:
        return await in_thread(work) if size > INLINE_BYTES else work()
    except BadGzipError as error:
        raise ProblemError(HTTPStatus.BAD_REQUEST, f"the body's gzip: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProblemError(HTTPStatus.BAD_REQUEST, f"the body: {error}") from None


async def in_thread(work: Callable[[], T]) -> T:
    """Run what takes long and lets the GIL go; as many at a time as there are cores."""
    return await asyncio.get_running_loop().run_in_executor(_threads, work)
