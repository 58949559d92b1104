"""Finds out who asks, before anything of a request is read.

A token comes as `Authorization: Bearer …`; of legacy agents as the path's first part, `/t/TOKEN`;
of browsers as the cookie that `POST /login` gave for it. Where none is asked for, nobody on this
machine is a stranger but the pages that its browsers visit.
"""

import re
import time
from collections.abc import Mapping
from http import HTTPStatus

from litestar.types import HTTPScope

from api import cookies
from api.access import NOBODY, Who
from api.problems import ProblemError
from api.tokens import Tokens

_IN_PATH = re.compile(r"(?:/+t/([^/]*))+")
_BEARER = b"Bearer "
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def take_from_path(scope: HTTPScope) -> bytes | None:
    """Take the token out of the path, for good: whoever writes paths down must not see it.

    However it is spelled: slashes too many, or a token after a token, of which the last one counts.
    """
    path = scope["path"]
    if not path.startswith(("/t/", "//")):
        return None
    found = _IN_PATH.match(path)
    if found is None:
        return None
    scope["path"] = path[found.end() :] or "/"
    scope["raw_path"] = scope["path"].encode(errors="replace")
    scope["token_in_path"] = True  # type: ignore[typeddict-unknown-key]  # ours
    return found[1].encode(errors="replace")


class Gate:
    """Knows people by what they bring."""

    def __init__(self, tokens: Tokens, key: bytes) -> None:
        self._tokens = tokens
        self._key = key

    def known(self, headers: Mapping[bytes, bytes]) -> Who | None:
        """Whoever brings a token that this process knows: nearly every request, in 1.5 µs."""
        if self._tokens.none:  # a browser is looked at more closely
            plain = b"origin" not in headers and cookies.names_loopback(headers.get(b"host"))
            return NOBODY if plain else None
        brought = headers.get(b"authorization")
        return self._tokens.known(brought[7:]) if brought and brought[:7] == _BEARER else None

    async def find(
        self, method: str, headers: Mapping[bytes, bytes], in_path: bytes | None
    ) -> Who | None:
        """Whoever brings what lives; None for all others. 403 for the form of a foreign site."""
        if self._tokens.none:
            # Who asks for no token is asked by every page that a browser of this machine visits. A
            # page's own name may come to mean this machine after it was loaded (DNS rebinding).
            if not cookies.names_loopback(headers.get(b"host")):
                raise _by_another_name(headers[b"host"])
            foreign = b"origin" in headers and not cookies.same_origin(headers)
            if foreign and method not in _SAFE:
                raise _elsewhere(
                    "without tokens, browsers may change things only from our own pages"
                )
            return NOBODY
        if in_path is not None:
            return await self._tokens.find(in_path)
        brought = headers.get(b"authorization")
        if brought:
            return await self._tokens.find(brought[7:]) if brought[:7] == _BEARER else None
        return await self._logged_in(method, headers) if b"cookie" in headers else None

    async def _logged_in(self, method: str, headers: Mapping[bytes, bytes]) -> Who | None:
        login = cookies.read(headers[b"cookie"])
        who = None if login is None else await self._tokens.named(login.ref)
        if login is None or who is None or not login.proves(self._key, who.digest, time.time()):
            return None
        if method not in _SAFE and not cookies.same_origin(headers):
            raise _elsewhere("a cookie allows changes only from our own pages")
        return who


def _by_another_name(host: bytes) -> ProblemError:
    return ProblemError(
        HTTPStatus.FORBIDDEN,
        "without tokens this server answers only to an address or `localhost`, not to"
        f" {host.decode('latin-1')!r} (`Host`): a web page could make its own name resolve to this"
        " machine. Use one of those, or set up tokens (TOKEN)",
    )


def _elsewhere(rule: str) -> ProblemError:
    return ProblemError(
        HTTPStatus.FORBIDDEN,
        f"{rule}: `Origin` must name this host; programs send a token as"
        " `Authorization: Bearer …`, and no `Origin`",
    )
