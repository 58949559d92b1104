"""The forms in which a secret may stand in output, and where they do. No I/O.

Programs give a secret other forms without meaning to: base64 of a header or of a whole file, a part
of a URL, a string in JSON, a key printed line by line.
"""

import json
import re
from base64 import b64encode
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import NamedTuple
from urllib.parse import quote, quote_plus

Span = tuple[int, int]
"""First byte, and one past the last."""

MIN_LINE_BYTES = 8
"""Shorter lines of a secret with several stand in too much that is none: they go with the whole."""

_WRAPPED_AT = 48  # the shortest lines of base64 that are joined; base64(1) writes 76, PEM has 64
CONTEXT_BYTES = _WRAPPED_AT + 2
"""What must be known of the bytes in front, to tell whether a line is such base64."""

_SURE = 4  # bytes of a form that are searched for in one go
_URL_ALPHABET = bytes.maketrans(b"+/", b"-_")
_HEX = re.compile(rb"%[0-9A-F]{2}")
_CODE = re.compile(r"((?<!\\)(?:\\\\)*\\u)([0-9a-f]{4})")
# The newline stands first: then the search runs from one to the next, 1.2 GB/s instead of 0.05.
_LONG = rb"[A-Za-z0-9+/_-]{%d}" % _WRAPPED_AT
_BREAK = re.compile(rb"\n(?:(?<=%s\n)|(?<=%s\r\n))" % (_LONG, _LONG))
_HALF_BREAK = re.compile(rb"(?<=%s)\r\Z" % _LONG)


class Forms:
    """All forms of some secrets."""

    def __init__(self, secrets: Iterable[str]) -> None:
        plain: set[bytes] = set()
        coded: set[bytes] = set()
        for secret in secrets:
            data = secret.encode().strip()
            lines = [line.strip() for line in data.split(b"\n")]
            plain |= {data, *_quoted(data), *_escaped(data.decode())}
            plain |= {line for line in lines if len(line) >= MIN_LINE_BYTES}
            coded |= set(_base64(data))
        self._plain = _Needles(plain - {b""})
        self._coded = _Needles(coded - {b""})

    def look(self, text: bytes) -> tuple[list[Span], int]:
        """(where forms stand, those that overlap as one; from where on one may be beginning)."""
        spans = self._plain.find(text)
        begins = self._plain.begins(text)
        joined = _join(text)
        spans += (joined.back(span) for span in self._coded.find(joined.text))
        if (at := self._coded.begins(joined.text)) < len(joined.text):
            begins = min(begins, joined.back((at, at + 1))[0])
        return _merge(spans), begins


class _Needles:
    """Byte strings, each looked for by itself.

    `bytes.find` skips by a needle's length: four of some 40 bytes are found at 2.1 GB/s in a varied
    log, at a tenth of that by one regular expression of all.
    """

    def __init__(self, needles: Iterable[bytes]) -> None:
        self._all = tuple(needles)
        self._starts = {each[:size] for each in self._all for size in range(1, _SURE)}

    def find(self, text: bytes) -> list[Span]:
        spans = []
        for each in self._all:
            at = text.find(each)
            while at >= 0:
                spans.append((at, at + len(each)))
                at = text.find(each, at + 1)
        return spans

    def begins(self, text: bytes) -> int:
        """The first byte from which on all of the rest is the beginning of a needle."""
        size = first = len(text)
        for each in self._all:
            start = each[:_SURE]
            at = text.find(start, max(0, size - len(each) + 1))
            while 0 <= at < first:
                if each.startswith(text[at:]):
                    first = at
                at = text.find(start, at + 1)
        for rest in range(min(_SURE - 1, size), 0, -1):
            if text[size - rest :] in self._starts:
                return min(first, size - rest)
        return first


class _Joined(NamedTuple):
    """Text without the line breaks of base64."""

    text: bytes
    breaks: list[int]
    """Where they were, in the joined text."""
    removed: list[int]
    """Bytes removed up to each of them."""

    def back(self, span: Span) -> Span:
        """Where it stands in the text with its line breaks."""
        first, end = span
        return self._back(first), self._back(end - 1) + 1

    def _back(self, position: int) -> int:
        before = bisect_right(self.breaks, position)
        return position + (self.removed[before - 1] if before else 0)


def _join(text: bytes) -> _Joined:
    found = [match.start() for match in _BREAK.finditer(text)]
    if half := _HALF_BREAK.search(text, max(0, len(text) - CONTEXT_BYTES)):
        found.append(half.start())
    if not found:
        return _Joined(text, [], [])
    pieces, breaks, sizes = [], [], []
    start = place = 0
    for at in found:
        end = at - (text[at - 1 : at] == b"\r")
        pieces.append(text[start:end])
        place += end - start
        start = at + 1
        breaks.append(place)
        sizes.append(start - end)
    pieces.append(text[start:])
    return _Joined(b"".join(pieces), breaks, list(accumulate(sizes)))


def _merge(spans: list[Span]) -> list[Span]:
    merged: list[Span] = []
    for first, end in sorted(spans):
        if merged and first < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((first, end))
    return merged


def _base64(data: bytes) -> Iterator[bytes]:
    """As it stands in a longer text: the characters that hold nothing of its neighbours."""
    for lead in range(3):
        first, end = -(-8 * lead // 6), 8 * (lead + len(data)) // 6
        coded = b64encode(bytes(lead) + data)[first:end]
        yield coded
        yield coded.translate(_URL_ALPHABET)


def _quoted(data: bytes) -> Iterator[bytes]:
    """In URLs; who quotes what differs: Python, encodeURIComponent, forms of browsers.

    Also as a part of one: a path and a user's password of Go's, a password of browsers', encodeURI.
    """
    for text in (
        quote(data, ""), quote(data, "/"), quote(data, "!'()*"), quote_plus(data),
        quote_plus(data, "*").replace("~", "%7E"), quote(data, "$&+=:@"),
        quote(data, "$&+,/:;=@"), quote(data, "$&+,;="), quote(data, "!$%&'()*+,"),
        quote(data, "#$&+,/:;=?@!'()*"),
    ):  # fmt: skip
        upper = text.encode()
        yield upper
        yield _HEX.sub(lambda match: match[0].lower(), upper)


def _escaped(text: str) -> Iterator[bytes]:
    """In JSON, without the quotes around it.

    Many writers spare HTML what it would take for its own: Go and Rails `<>&`, Gson also `=` and
    `'`, .NET more, in capitals.
    """
    for to_ascii in (True, False):
        escaped = json.dumps(text, ensure_ascii=to_ascii)[1:-1]
        for form in (
            escaped, escaped.replace("/", r"\/"),
            _numbered(escaped, "<>&"), _numbered(escaped, "<>&='"),
        ):  # fmt: skip
            yield form.encode()
    dotnet = _numbered(json.dumps(text)[1:-1].replace(r"\"", r"\u0022"), "<>&'+`")
    yield _CODE.sub(lambda match: match[1] + match[2].upper(), dotnet).encode()


def _numbered(text: str, characters: str) -> str:
    return text.translate({ord(each): rf"\u{ord(each):04x}" for each in characters})
