"""The API over HTTP/1.1, and what is tried again.

Errors:
    ApiError                 what all of them are
    ├── AwayError            try the same again later; `retry_after_s` where the API named a time
    │   └── UntrustedError   whoever answers cannot prove to be the API: its certificate
    ├── SessionGoneError     the session is dead: open a new one
    └── RefusedError         this body will never be taken; `status` says why
"""

import asyncio
import io
import random
import ssl
from types import TracebackType
from typing import NoReturn, Self, TypeVar

import aiohttp
import msgspec
from multidict import CIMultiDictProxy

from schema.claims import ClaimReply, ClaimRequest
from schema.problems import Problem
from schema.reports import Report, ReportReply
from schema.sessions import Beat, BeatReply, SessionOpen, SessionOpened

T = TypeVar("T")

_JSON = "application/json"
_MSGPACK = "application/msgpack"

_CONNECT_S = 5
_ANSWER_S = 10  # beyond the time that the API was asked to wait
_LINE_BYTES_S = 70_000  # a slow line: 8 MiB take two minutes
_LARGE_BYTES = 262_144
_CONNECTIONS = 8  # beat, claim, two reports, and some that are being replaced
_BACKOFF_FIRST_S = 0.1
_BACKOFF_MOST_S = 5.0
_RETRY_AFTER_MOST_S = 60.0
_EMPTY_LEAST_S = 0.25  # between requests that bring nothing

RETRIED_EXCEPTIONS = (
    aiohttp.ClientError,  # refused, reset, cut in the middle, answered with something odd
    TimeoutError,  # of asyncio and aiohttp alike
    OSError,
    msgspec.MsgspecError,  # an answer that is none of ours: a proxy's page
)
"""With these the request may have been carried out, so all routes bear being asked twice."""

STATUS_GONE = 410
REFUSED_STATUSES = frozenset({400, 413, 415, 422})
"""The body itself is wrong or too big. Every other status of 400 and above is tried again: 401, 403
and 404 too, as they tell of a deployment under way or a token that someone is changing."""


class ApiError(Exception):
    """The API did not do what it was asked."""


class AwayError(ApiError):
    """Not now."""

    def __init__(self, why: str, status: int = 0, retry_after_s: float | None = None) -> None:
        super().__init__(why)
        self.status = status
        self.retry_after_s = retry_after_s


class UntrustedError(AwayError):
    """Its certificate is signed by nobody that is trusted, is for another name, or is too old."""


class SessionGoneError(ApiError):
    """The session has ended."""


class RefusedError(ApiError):
    """Never in this form."""

    def __init__(self, why: str, status: int) -> None:
        super().__init__(why)
        self.status = status


class Backoff:
    """Full jitter: a random time up to a bound that doubles with each failure."""

    def __init__(self, random_01: random.Random | None = None) -> None:
        self._random = random_01 or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._failures = 0

    def next_s(self, retry_after_s: float | None = None) -> float:
        """Seconds until the next try, never before what the API asked for."""
        bound_s = min(_BACKOFF_MOST_S, _BACKOFF_FIRST_S * 2.0 ** min(self._failures, 30))
        self._failures += 1
        jitter_s = self._random.random() * bound_s
        if retry_after_s is not None:
            return min(max(retry_after_s, 0), _RETRY_AFTER_MOST_S) + jitter_s
        return jitter_s

    def reset(self) -> None:
        """Something worked."""
        self._failures = 0


def calm_s(took_s: float) -> float:
    """Seconds to wait after a long-poll that took so long and brought nothing.

    An API that does not park us, as while it stops, must not be asked in a circle.
    """
    return max(_EMPTY_LEAST_S - took_s, 0.0)


def report_s(size: int) -> float:
    """Seconds that a report of so many bytes may take: what hangs should be sent again soon."""
    return _ANSWER_S + size / _LINE_BYTES_S


class ApiClient:
    """One method for each route of the agent."""

    def __init__(self, url: str, token: str, ca_file: str = "") -> None:
        self._url = url.rstrip("/")
        self._ca_file = ca_file
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=_CONNECTIONS,
                ssl=ssl.create_default_context(cafile=self._ca_file) if self._ca_file else True,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept": _JSON, **self._headers},
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._http is not None:
            await self._http.close()

    async def open_session(self, body: SessionOpen) -> SessionOpened:
        """`POST /sessions`."""
        return await self._json("/sessions", body, SessionOpened)

    async def beat(self, body: Beat, answer_s: float = _ANSWER_S) -> BeatReply:
        """`POST /beats`; an answer that comes later than so long after its wait counts as lost."""
        most_s = body.wait + min(answer_s, _ANSWER_S)
        return await self._post("/beats", msgspec.json.encode(body), _JSON, BeatReply, most_s)

    async def claim(self, body: ClaimRequest) -> ClaimReply:
        """`POST /claims`."""
        return await self._json("/claims", body, ClaimReply, body.wait)

    async def report(self, body: Report) -> ReportReply:
        """`POST /reports`."""
        data = msgspec.msgpack.encode(body)
        return await self._post("/reports", data, _MSGPACK, ReportReply, report_s(len(data)))

    async def _json(self, path: str, body: msgspec.Struct, reply: type[T], wait_s: float = 0) -> T:
        return await self._post(path, msgspec.json.encode(body), _JSON, reply, wait_s + _ANSWER_S)

    async def _post(
        self, path: str, data: bytes, content_type: str, reply: type[T], total_s: float
    ) -> T:
        assert self._http is not None, "use it as a context manager"
        try:
            async with self._http.post(
                self._url + path,
                # From a file aiohttp writes piece by piece; large bytes would hold up the loop.
                data=data if len(data) < _LARGE_BYTES else io.BytesIO(data),
                headers={"Content-Type": content_type},
                timeout=aiohttp.ClientTimeout(total=total_s, sock_connect=_CONNECT_S),
                allow_redirects=False,
            ) as response:
                content = await response.read()
                if not response.ok or response.status >= 300:  # noqa: PLR2004 - no redirects
                    _raise_problem(response.status, content, response.headers)
                if response.content_type == _MSGPACK:
                    return msgspec.msgpack.decode(content, type=reply)
                return msgspec.json.decode(content, type=reply)
        except aiohttp.ClientConnectorCertificateError as error:
            raise UntrustedError(_why_untrusted(error)) from error
        except RETRIED_EXCEPTIONS as error:
            raise AwayError(_say(error)) from error


def _raise_problem(status: int, content: bytes, headers: CIMultiDictProxy[str]) -> NoReturn:
    try:
        problem = msgspec.json.decode(content, type=Problem)
        why, retry_after_s = f"{problem.title}: {problem.detail}", problem.retry_after
    except msgspec.MsgspecError:
        why, retry_after_s = "no explanation", None
    why = f"{status} {why}"
    if status == STATUS_GONE:
        raise SessionGoneError(why)
    if status in REFUSED_STATUSES:
        raise RefusedError(why, status)
    header = headers.get("Retry-After", "")
    if header.isdecimal():
        retry_after_s = float(header)
    raise AwayError(why, status, retry_after_s)


def _why_untrusted(error: aiohttp.ClientConnectorCertificateError) -> str:
    why = getattr(error.certificate_error, "verify_message", None) or error.certificate_error
    return f"the certificate of {error.host} is not trusted: {why}"


def _say(error: BaseException) -> str:
    if isinstance(error, asyncio.TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot connect: {error.os_error.strerror or error.os_error}"
    return str(error) or type(error).__name__
