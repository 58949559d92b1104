"""Request bodies, in bounded memory and time."""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any, Protocol, TypeVar

import msgspec
from litestar import Request
from msgspec import Struct
from msgspec.structs import replace

from api.members import BadGzipError, InflatesTooFarError, TooSlowError, deadline, inflate
from api.problems import ProblemError
from api.settings import Settings

_PAUSE_PARTS = 8  # a pause is measured that coarsely: setting a timer anew costs a microsecond
_BETWEEN_VALUES = b",[{"
_COUNT_BYTES = 1_048_576  # counted in a millisecond, for which the thread keeps the GIL
INLINE_BYTES = 32_768
"""Up to here a thread costs more than it brings: 150 µs under load, as both want the GIL."""

_threads = ThreadPoolExecutor(len(os.sched_getaffinity(0)), "bodies")

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class TooManyValuesError(Exception):
    """JSON of so many values that decoding it would hold up everybody: it keeps the GIL."""


class Limits(Struct, frozen=True):
    """How much one body may be, and how long it may take."""

    size: int
    """Bytes, before and after inflating."""
    setting: str
    """The variable that says so."""
    values: int
    """In JSON, about: what stands between commas, brackets and braces."""
    body_s: float
    pause_s: float
    """Between two pieces."""
    inflate_s: float
    """Of a processor's time."""


def limits_of(settings: Settings) -> tuple[Limits, Limits]:
    """Limits of bodies with tasks or logs, and of all others."""
    large = Limits(
        size=settings.max_body_bytes,
        setting="MAX_BODY_BYTES",
        values=settings.max_json_values,
        body_s=settings.body_s,
        pause_s=settings.body_pause_s,
        inflate_s=settings.inflate_s,
    )
    small = min(settings.max_small_body_bytes, settings.max_body_bytes)
    return large, replace(large, size=small, setting="MAX_SMALL_BODY_BYTES")


class Decoder(Protocol[T_co]):
    """msgspec's decoders."""

    def decode(self, buf: bytes, /) -> T_co:
        """Raise msgspec.DecodeError or msgspec.ValidationError."""


def header(request: Request[Any, Any, Any], name: bytes) -> str:
    """One header in small letters, empty where there is none; `request.headers` is slow to make."""
    for each, value in request.scope["headers"]:
        if each == name:
            return value.decode("latin-1").lower()
    return ""


async def read(request: Request[Any, Any, Any], limits: Limits) -> bytes:
    """The body as it comes; a 4xx problem, which names the setting.

    Whose token was revoked meanwhile is refused: a request that waits for its last byte would else
    be a way to do something afterwards, as to make another token.
    """
    body = await _receive(request, limits)
    if (who := request.scope.get("user")) is not None:  # nobody, for the form to log in
        who.check_lives()
    return body


async def _receive(request: Request[Any, Any, Any], limits: Limits) -> bytes:
    announced = _announced(request)
    now = asyncio.get_running_loop().time
    begun = moved = now()
    try:
        async with asyncio.timeout(min(limits.body_s, limits.pause_s)) as patience:
            parts: list[bytes] = []
            size = 0
            while True:
                message = await request.receive()
                if message["type"] != "http.request":
                    raise ProblemError(HTTPStatus.BAD_REQUEST, "the body was cut off")
                parts.append(message["body"])
                size += len(message["body"])
                if size > limits.size:
                    raise _too_large(f"is larger than {limits.size} bytes ({limits.setting})")
                # Granian tells the end in a message of its own: to wait for that too cost 30 of the
                # 300 us of a beat.
                if size == announced or not message.get("more_body"):
                    return parts[0] if len(parts) == 1 else b"".join(parts)
                if now() - moved > limits.pause_s / _PAUSE_PARTS:
                    moved = now()
                    patience.reschedule(min(begun + limits.body_s, moved + limits.pause_s))
    except TimeoutError:
        raise ProblemError(
            HTTPStatus.REQUEST_TIMEOUT,
            f"the body did not arrive within {limits.body_s:g} s (BODY_S), or paused for"
            f" {limits.pause_s:g} s (BODY_PAUSE_S)",
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


def _too_large(what: str) -> ProblemError:
    return ProblemError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body {what}")


async def decoded(
    request: Request[Any, Any, Any],
    decoder: Decoder[T],
    limits: Limits,
    *,
    without: T | None = None,
    counted: bool = True,
) -> T:
    """The body as `decoder` reads it.

    A 4xx problem says what is wrong, and where. `without` stands for an empty body, where there may
    be none; not `counted` is what is no JSON, or one long text. Large bodies are inflated and
    decoded in a thread; how large one is that comes as gzip it says itself, and where it lies the
    event loop waits for it.
    """
    body = await read(request, limits)
    encoding = header(request, b"content-encoding")
    if encoding not in {"", "identity", "gzip", "x-gzip"}:
        raise ProblemError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"Content-Encoding {encoding!r}: send gzip or none"
        )

    plainly = encoding in {"", "identity"}
    size = len(body) if plainly else max(len(body), int.from_bytes(body[-4:], "little"))

    def work() -> T:
        plain = body if plainly else inflate(body, limits.size, deadline(limits.inflate_s))
        if not plain and without is not None:
            return without
        if counted and len(plain) > limits.values and _values_in(plain) > limits.values:
            raise TooManyValuesError
        return decoder.decode(plain)

    try:
        return await in_thread(work) if size > INLINE_BYTES else work()
    except _WRONG as error:
        raise _wrong(error, limits) from None


_WRONG = (
    BadGzipError, TooSlowError, TooManyValuesError, RecursionError, msgspec.DecodeError,
    UnicodeDecodeError,
)  # fmt: skip


def _wrong(error: Exception, limits: Limits) -> ProblemError:
    match error:
        case InflatesTooFarError():
            return _too_large(f"inflates to more than {limits.size} bytes ({limits.setting})")
        case TooSlowError():
            return _too_large(
                f"takes longer to inflate than {limits.inflate_s:g} s (INFLATE_S): send less at"
                " once"
            )
        case TooManyValuesError():
            return _too_large(
                f"has more than {limits.values} commas, brackets and braces (MAX_JSON_VALUES):"
                " send less at once"
            )
        case BadGzipError():
            why = f"the body's gzip: {error}"
        case RecursionError():
            why = "the body is nested too deeply: hundreds of arrays or objects inside one another"
        case _:
            why = f"the body: {error}"
    return ProblemError(HTTPStatus.BAD_REQUEST, why)


def _values_in(plain: bytes) -> int:
    """At least as many values as the JSON has; what stands in texts counts too."""
    pieces = (plain[at : at + _COUNT_BYTES] for at in range(0, len(plain), _COUNT_BYTES))
    return sum(len(piece) - len(piece.translate(None, _BETWEEN_VALUES)) for piece in pieces)


async def in_thread(work: Callable[[], T]) -> T:
    """Run what takes long and lets the GIL go; as many at a time as there are cores."""
    return await asyncio.get_running_loop().run_in_executor(_threads, work)
