"""The cookie of somebody who logged in: it names a token and has none in it.

`ref.expires.mac`: which token (see `api.access.Who`), until when (seconds since 1970), and a keyed
BLAKE2b over both and the token's digest. Nothing is stored, so every worker of every server knows
it; and it ends with its token. What it cannot do is end alone: a copy outlives the logout.
"""

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2b
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import urlsplit

NAME = "dw_login"
LIFE_S = 12 * 3600
_OURS = NAME.encode() + b"="
_PERSON = b"dw cookie"  # the key signs leases too


class Login(NamedTuple):
    """What a cookie says of itself, not proven yet."""

    ref: str
    expires_at: int
    mac: str

    def proves(self, key: bytes, digest: bytes, now: float) -> bool:
        """Tell whether it was made with the token of that digest, and holds still."""
        genuine = _mac(key, self.ref, self.expires_at, digest)
        return now < self.expires_at and hmac.compare_digest(self.mac, genuine)


def seal(key: bytes, ref: str, digest: bytes, expires_at: int) -> str:
    """Make the cookie's text."""
    return f"{ref}.{expires_at}.{_mac(key, ref, expires_at, digest)}"


def _mac(key: bytes, ref: str, expires_at: int, digest: bytes) -> str:
    mac = blake2b(
        f"{ref}.{expires_at}.".encode() + digest, key=key, person=_PERSON, digest_size=18
    ).digest()
    return urlsafe_b64encode(mac).decode()


def read(header: bytes) -> Login | None:
    """Find it among the cookies of a request.

    Not by `http.cookies`: 20 KB of backslashes held it up for five seconds (CVE-2024-7592), and one
    odd cookie of another program hid ours.
    """
    cookies = (each.strip() for each in header.split(b";"))
    ours = next((each for each in cookies if each.startswith(_OURS)), _OURS)
    ref, _, rest = ours.removeprefix(_OURS).decode("latin-1").partition(".")
    expires_at, _, mac = rest.partition(".")
    if not (ref and mac.isascii() and expires_at.isascii() and expires_at.isdigit()):
        return None
    return Login(ref, int(expires_at[:12]), mac)


def set_cookie(text: str, life_s: int, *, secure: bool) -> str:
    """The header's value: for our own pages only, and no script may read it."""
    flags = f"Path=/; Max-Age={life_s}; HttpOnly; SameSite=Strict"
    return f"{NAME}={text}; {flags}" + ("; Secure" if secure else "")


def same_origin(headers: Mapping[bytes, bytes]) -> bool:
    """Tell whether a browser says that a page of ours sent this.

    Browsers name the origin in whatever changes something. The scheme does not count: behind a
    proxy that speaks TLS ours is another.
    """
    origin = headers.get(b"origin", b"").decode("latin-1")
    try:
        return bool(origin) and urlsplit(origin).netloc == headers[b"host"].decode("latin-1")
    except (KeyError, ValueError):
        return False


@lru_cache(maxsize=256)  # each request has one
def names_loopback(host: bytes | None) -> bool:
    """Tell whether the host that was asked for has no name that a stranger could have given it.

    An address has none, and `localhost` means this machine everywhere. Browsers always name one.
    """
    if host is None:
        return True
    try:
        name = urlsplit(f"//{host.decode('latin-1')}").hostname or ""
        return name == "localhost" or name.endswith(".localhost") or bool(ip_address(name))
    except ValueError:
        return False
