"""The lease: proof that an attempt is yours, checked without asking the database."""

import hashlib
import hmac
from base64 import urlsafe_b64encode
from datetime import date

from msgspec import Struct

_MAC_BYTES = 16  # 128 bits: as hard to guess as the session id


class BadLeaseError(ValueError):
    """The text is no lease of this key."""


class Lease(Struct, frozen=True, gc=False):
    """One attempt in the hands of one session."""

    task: int
    attempt: int
    day: date
    """UTC day of the claim: the partition of all its log chunks."""
    session: int
    """Row of the session; 0 where the compatible routes claimed."""


def _mac(body: str, key: bytes) -> str:
    # Keyed BLAKE2b is a MAC of its own; HMAC with SHA-256 takes three times as long.
    digest = hashlib.blake2b(body.encode(), key=key, digest_size=_MAC_BYTES).digest()
    return urlsafe_b64encode(digest).rstrip(b"=").decode()


def sign(lease: Lease, key: bytes) -> str:
    """Write `task.attempt.day.session.mac`; day as in `date.toordinal`."""
    body = f"{lease.task}.{lease.attempt}.{lease.day.toordinal()}.{lease.session}"
    return f"{body}.{_mac(body, key)}"


def verify(text: str, key: bytes) -> Lease:
    """Read what `sign` wrote with the same key; BadLeaseError for anything else."""
    body, _, mac = text.rpartition(".")
    try:
        genuine = hmac.compare_digest(mac.encode("ascii"), _mac(body, key).encode())
    except UnicodeEncodeError:
        genuine = False
    if not genuine:
        raise BadLeaseError("not a lease from this server")
    task, attempt, day, session = map(int, body.split("."))
    return Lease(task, attempt, date.fromordinal(day), session)
