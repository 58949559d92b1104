"""Reading back over plain HTTP/1.1, with patience for a server that is being restarted."""

import http.client
import time
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

_PAUSE_S = 0.2


class Answer(Struct, frozen=True):
    """What came back."""

    status: int
    headers: Mapping[str, str]
    """Names in small letters."""
    body: bytes


class Reader(Protocol):
    """What the checks need of a server."""

    def ask(self, method: str, path: str, body: object = None) -> Answer:
        """Send one request, its body as JSON."""


class HttpReader:
    """One keep-alive connection, opened anew when it breaks."""

    def __init__(self, url: str, token: str | None = None, *, patience_s: float = 30) -> None:
        parts = urlsplit(url)
        https = parts.scheme == "https"
        kind = http.client.HTTPSConnection if https else http.client.HTTPConnection
        self._connection = kind(parts.hostname or "127.0.0.1", parts.port, timeout=patience_s)
        self._prefix = parts.path.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._patience_s = patience_s

    def ask(self, method: str, path: str, body: object = None) -> Answer:
        """Send one request, again after a broken connection or a 503, until patience ends.

        Only for requests that may be sent twice. Raises OSError or http.client.HTTPException.
        """
        deadline = time.monotonic() + self._patience_s
        content = None if body is None else msgspec.json.encode(body)
        while True:
            try:
                self._connection.request(method, self._prefix + path, content, self._headers)
                response = self._connection.getresponse()
                headers = {name.lower(): value for name, value in response.getheaders()}
                answer = Answer(response.status, headers, response.read())
            except (OSError, http.client.HTTPException):
                self._connection.close()
                if time.monotonic() > deadline:
                    raise
            else:
                busy = answer.status == http.HTTPStatus.SERVICE_UNAVAILABLE
                if not busy or time.monotonic() > deadline:
                    return answer
            time.sleep(_PAUSE_S)

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()
