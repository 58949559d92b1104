"""Bytes of tasks as text for people: JSON has no others."""

_CONTINUES = 0x80  # of a character's second byte and those behind it
_LEAD = 0xC0
_MOST_BEHIND = 3


def decoded(data: bytes) -> tuple[str, bytes | None]:
    """As UTF-8; with the bytes themselves where they are not."""
    try:
        return data.decode(), None
    except UnicodeDecodeError:
        return data.decode(errors="replace"), data


def whole(data: bytes) -> int:
    """How many bytes to keep so that no character is cut at the end: all but three at most."""
    for behind in range(1, min(_MOST_BEHIND, len(data)) + 1):
        byte = data[-behind]
        if byte & _LEAD != _CONTINUES:  # a character begins here
            needed = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2 if byte >= _LEAD else 1  # noqa: PLR2004 - UTF-8
            return len(data) - behind if needed > behind else len(data)
    return len(data)
