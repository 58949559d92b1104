"""Server-sent events as bytes."""

import msgspec

_encode = msgspec.json.Encoder().encode

HELLO = b"retry: 1000\n\n"
"""Milliseconds after which a browser connects again."""

KEEP_ALIVE = b": keep-alive\n\n"


def event(name: str, data: object, position: object = None) -> bytes:
    """One event. Its JSON has no newline in it, whatever the task wrote."""
    return written(name, _encode(data), position)


def written(name: str, data: bytes, position: object = None) -> bytes:
    """One event whose data is JSON already."""
    if position is None:
        return b"event: %b\ndata: %b\n\n" % (name.encode(), data)
    return b"event: %b\ndata: %b\nid: %b\n\n" % (name.encode(), data, str(position).encode())
