"""One request and its reply: addresses, the token, errors as exceptions, and trying again."""

import asyncio
import io
import random
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import TypeVar

import aiohttp
import msgspec
from msgspec import Struct

from client.errors import (
    RETRIED,
    BadAuthoritiesError,
    BusyError,
    DwError,
    UnreachableError,
    UnreadableError,
    refusal,
)
from schema.problems import Problem

T = TypeVar("T")
Params = Sequence[tuple[str, str]]

FIRST_BACKOFF_S = 0.05
MOST_BACKOFF_S = 5.0
_TEXT_SHOWN = 200  # characters of a reply that is no problem document
_OK = range(200, 300)


class Patience(Struct, frozen=True):
    """How long failing requests are tried again, counted from the first failure."""

    first_s: float = 3.0
    """Before the server answered anything: then the address is probably wrong."""
    later_s: float = 120.0
    """After it did: it is probably being started again."""


def backoff_s(failures: int, left_s: float, retry_after_s: float | None) -> float | None:
    """Seconds until the next try after so many failures; None to give up.

    Doubles from 50 ms to 5 s, jittered down by up to half so that clients of a restarted server
    do not come back together. The server's own wish is a lower bound.
    """
    wait_s = min(MOST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(failures - 1, 10))
    wait_s *= random.uniform(0.5, 1)  # noqa: S311 - jitter, not a secret
    wait_s = max(wait_s, retry_after_s or 0)
    return wait_s if wait_s <= left_s else None


class Transport:
    """Speaks HTTP/1.1 to one server. One per event loop; close it."""

    def __init__(
        self,
        url: str,
        token: str | None,
        patience: Patience,
        notice: Callable[[DwError, float], None] | None,
        ca_file: str | None,
    ) -> None:
        """`notice` hears of an outage: its first failure, and the seconds to keep trying.

        `ca_file`: the authorities to trust, instead of the system's; BadAuthoritiesError.
        """
        self.url = url
        self._patience = patience
        self._notice = notice
        self._answered = False
        self._away = False
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=_trusting(ca_file)),
            headers={"Authorization": f"Bearer {token}"} if token else None,
            # Total time is bounded by patience; an answer that stalls for a minute is dead.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60),
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._http.close()

    async def request(
        self, method: str, path: str, params: Params = (), body: bytes | None = None
    ) -> bytes:
        """Return the body of a 2xx reply; raises a DwError for everything else."""

        async def once() -> bytes:
            reply = await self._send(method, path, params, body)
            async with reply:
                try:
                    return await reply.read()
                except (aiohttp.ClientError, OSError, TimeoutError) as error:
                    raise UnreachableError(self.url, error) from error

        return await self._persist(once)

    @asynccontextmanager
    async def stream(
        self, path: str, params: Params, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Open a 2xx reply whose body is still to be read."""

        async def once() -> aiohttp.ClientResponse:
            return await self._send("GET", path, params, None, headers)

        async with await self._persist(once) as reply:
            yield reply

    async def _send(
        self,
        method: str,
        path: str,
        params: Params,
        body: bytes | None,
        headers: Mapping[str, str] | None = None,
    ) -> aiohttp.ClientResponse:
        """Try once, for an open 2xx reply."""
        if body is not None:
            headers = {"Content-Type": "application/json"}
        try:
            reply = await self._http.request(
                method,
                f"{self.url}{path}",
                params=list(params),
                data=io.BytesIO(body) if body is not None else None,  # bytes over 1 MiB warn
                headers=headers,
                allow_redirects=False,  # a token goes to the server that was named, no other
            )
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
            raise UnreadableError(self.url, 0, "is not the address of a server") from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise UnreachableError(self.url, error) from error
        if reply.status in _OK:
            self._answered = True
            self._away = False
            return reply
        async with reply:
            raise await _error(reply, self.url)

    async def _persist(self, once: Callable[[], Awaitable[T]]) -> T:
        """Try until it works, cannot work, or patience ends."""
        failures = 0
        deadline = 0.0
        while True:
            try:
                return await once()
            except RETRIED as error:
                if isinstance(error, UnreachableError) and isinstance(
                    error.cause, aiohttp.ClientSSLError
                ):
                    raise  # a certificate does not get better by asking again
                failures += 1
                now = time.monotonic()
                patience_s = self._patience.later_s if self._answered else self._patience.first_s
                if failures == 1:
                    deadline = now + patience_s
                asked_s = error.problem.retry_after if isinstance(error, BusyError) else None
                wait_s = backoff_s(failures, deadline - now, asked_s)
                if wait_s is None:
                    raise
                if failures == 1 and not self._away and self._notice is not None:
                    self._away = True  # of several requests at once, the first one tells
                    self._notice(error, patience_s)
            await asyncio.sleep(wait_s)


def _trusting(ca_file: str | None) -> ssl.SSLContext | bool:
    if ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # ssl.SSLError too
        raise BadAuthoritiesError(ca_file, error.strerror) from error


async def _error(reply: aiohttp.ClientResponse, url: str) -> DwError:
    """Tell what a reply outside 2xx means. A proxy's page becomes a problem of its status."""
    try:
        body = await reply.read()
    except (aiohttp.ClientError, OSError, TimeoutError):
        body = b""
    try:
        problem = msgspec.json.decode(body, type=Problem)
    except msgspec.DecodeError:
        if reply.status < 400:  # noqa: PLR2004 - redirects and the like
            return UnreadableError(url, reply.status, "a redirect: use the address it names")
        text = " ".join(body.decode(errors="replace").split())[:_TEXT_SHOWN]
        title = f"{reply.status} {reply.reason or ''}".strip()
        problem = Problem(status=reply.status, title=title, detail=f"{title}: {text}".rstrip(": "))
    error = refusal(problem)
    if isinstance(error, BusyError) and problem.retry_after is None:
        after_s = retry_after_s(reply.headers.get("Retry-After"), time.time())
        return BusyError(msgspec.structs.replace(problem, retry_after=after_s))
    return error


def retry_after_s(header: str | None, now: float) -> float | None:
    """Seconds to wait by a `Retry-After` (RFC 9110 §10.2.3): a number or a date."""
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - now)
    except ValueError:
        return None
