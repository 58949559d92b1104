"""Agent, secrets: how many MB of a task's log a second it takes them out of, on one core.

What a task writes, in pieces as they are read from a pipe, becomes redacted, then chunks with CRC
and times, then gzip. The limit is the same of a task without secrets, which skips the first step,
measured in turns. Each MiB holds the secret once.
"""

import base64
import random
import time
from collections.abc import Callable, Sequence

import pytest

from agent.forms import Forms
from agent.pipe import READ_BYTES
from agent.redacting import STARS, Redactor
from agent.streams import Cut, MarkClock, StreamBuffer
from benchmarks.conftest import Meter
from loadtest import payloads

_CHUNK_BYTES = 512 * 1024  # the agent's default
_MIB = 1024 * 1024
_RANDOM = random.Random(1)  # the same secrets each time
_TOKEN = "ghp_" + base64.b64encode(_RANDOM.randbytes(27)).decode()


def _key() -> str:
    """28 lines, as a private key of RSA with 2,048 bits has."""
    text = base64.b64encode(_RANDOM.randbytes(1218)).decode()
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return "\n".join(["-----BEGIN PRIVATE KEY-----", *lines, "-----END PRIVATE KEY-----"])


_KEY = _key()
_SECRETS = {
    "no secrets": [],
    "a token": [_TOKEN],
    "a key of 28 lines": [_KEY],
    "a token and a key": [_TOKEN, _KEY],
}


def _log(secret: str, size: int) -> list[bytes]:
    """Give varied lines, in pieces as they are read from a pipe."""
    part = payloads.real(_MIB - len(secret) - 1).data + secret.encode() + b"\n"
    text = (part * (size // _MIB + 1))[:size]
    return [text[at : at + READ_BYTES] for at in range(0, len(text), READ_BYTES)]


def _run(log: Sequence[bytes], redactor: Redactor | None) -> list[Cut]:
    """Take it all; the chunks that come of it."""
    stream = StreamBuffer(MarkClock(), _CHUNK_BYTES)
    cuts: list[Cut] = []

    def add(data: bytes) -> None:
        cuts.extend(stream.append(data, time.time_ns() // 1000, time.monotonic()))

    for piece in log:
        add(piece if redactor is None else redactor.take(piece, time.monotonic()))
    if redactor is not None:
        add(redactor.end())
    if rest := stream.flush():
        cuts.append(rest)
    for cut in cuts:
        cut.gzip_member()
    return cuts


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


@pytest.mark.parametrize("name", _SECRETS)
def test_agent_redaction(meter: Meter, name: str) -> None:
    """MB a second; a task without secrets does not have the step at all."""
    secrets = _SECRETS[name]
    size = meter.size(1024) * _MIB // 16
    megabytes = size // 1_000_000
    log = _log(secrets[-1] if secrets else "", size)
    forms = Forms(secrets) if secrets else None
    if forms:
        shown = b"".join(piece for cut in _run(log, Redactor(forms)) for piece in cut.pieces)
        assert shown.count(STARS) >= size // _MIB
        assert all(secret.encode() not in shown for secret in secrets)
    meter.rounds(
        lambda: _run(log, Redactor(forms) if forms else None),
        lambda: None,
        limit=lambda: megabytes / _timed(lambda: _run(log, None)),
    )
    meter.rate("MB", megabytes)
    meter.limit_in_turns("without redaction")
