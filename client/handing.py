"""How submissions leave: with keys, in bodies that servers take."""

import secrets
from collections.abc import Iterable, Iterator

import msgspec

from schema.tasks import MAX_TASKS_PER_SUBMISSION, Submission

BODY_BYTES = 4 * 1024 * 1024
"""The most of one submission's body: servers bound what they read."""


def _keyed(tasks: Iterable[Submission]) -> Iterator[Submission]:
    prefix = secrets.token_urlsafe(16)
    for index, task in enumerate(tasks):
        if task.key is None:
            yield msgspec.structs.replace(task, key=f"{prefix}.{index}")
        else:
            yield task


def bodies(tasks: Iterable[Submission]) -> Iterator[bytes]:
    """JSON arrays that keep to both bounds of one request; all tasks have keys."""
    encoded: list[bytes] = []
    size = 0
    for task in _keyed(tasks):
        one = msgspec.json.encode(task)
        if encoded and (
            len(encoded) == MAX_TASKS_PER_SUBMISSION or size + len(one) + 1 > BODY_BYTES
        ):
            yield b"[%s]" % b",".join(encoded)
            encoded, size = [], 0
        encoded.append(one)
        size += len(one) + 1
    if encoded:
        yield b"[%s]" % b",".join(encoded)
