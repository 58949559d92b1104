"""What all simulated users share: patient requests, and the kinds of logs that they upload.

They run in greenlets of one process: whatever computes holds up all others, so nothing here
compresses (see `loadtest.payloads`).
"""

import os
import random
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import ClassVar

import msgspec
from locust import FastHttpUser
from msgspec import Struct

from loadtest import payloads
from loadtest.payloads import Payload
from loadtest.run import Run
from schema.claims import ClaimReply

FAILING = 0.1
"""Part of all tasks that fail."""
COMEBACK = frozenset({0, 500, 502, 503, 504})
"""Statuses after which a request is sent again; 0 is no answer at all."""

_PATIENCE_S = 20.0
_PAUSE_S = 0.25
_claimed = msgspec.json.Decoder(ClaimReply)


class Kind(Struct, frozen=True):
    """One kind of task by what it writes."""

    name: str
    """In Locust's table."""
    weight: int
    payload: Payload
    chunks: int


_KINDS = (
    Kind("20 lines", 12, payloads.few_lines(20), 1),
    Kind("64 KiB", 4, payloads.real(64 * 1024), 2),
    Kind("512 KiB seed", 1, payloads.seed(512 * 1024), 1),
    Kind("512 KiB real", 1, payloads.real(512 * 1024), 1),
)


def any_kind() -> Kind:
    """Choose one by weight."""
    return random.choices(_KINDS, [kind.weight for kind in _KINDS])[0]


class Reply(Struct, frozen=True):
    """What came back in the end."""

    status: int
    body: bytes
    resent: bool
    """An earlier try had no answer: it may have done its work."""


class Simulated(FastHttpUser):
    """What all users share."""

    abstract = True
    insecure = False  # Locust's default checks no certificate
    run_: ClassVar[Run]
    """Set when a run starts."""

    def call(
        self,
        method: str,
        path: str,
        name: str,
        body: Callable[[bool], bytes],
        headers: dict[str, str] | None = None,
    ) -> Reply:
        """Send a request, again after a broken connection or a 5xx, as real agents do.

        `body` is asked with whether the request was sent before.
        """
        deadline = time.monotonic() + _PATIENCE_S
        resent = False
        common = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if token := os.environ.get("TOKEN"):
            common["Authorization"] = f"Bearer {token}"
        while True:
            with self.client.request(
                method,
                path,
                name=name,
                data=body(resent),  # type: ignore[arg-type]  # its hint forgets bytes
                headers=common | (headers or {}),
                catch_response=True,
            ) as response:
                status = response.status_code
                content = response.content or b""
                if status == HTTPStatus.SERVICE_UNAVAILABLE:
                    response.request_meta["name"] = f"{name} (told to wait)"
                    response.success()
                if (
                    path == "/claims"
                    and status == HTTPStatus.OK
                    and not _claimed.decode(content).tasks
                ):
                    response.request_meta["name"] = f"{name} (nothing there)"
            if status not in COMEBACK or time.monotonic() > deadline:
                return Reply(status, content, resent)
            resent = resent or status != HTTPStatus.SERVICE_UNAVAILABLE
            time.sleep(_PAUSE_S)
