"""Secrets are taken out of a stream in all their forms, wherever it is cut; all else stays."""

import base64
import json
import urllib.parse
from collections.abc import Callable, Iterable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.forms import MIN_LINE_BYTES, Forms
from agent.redacting import STARS, Redactor

_BASE64 = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_")
_PEM = "-----BEGIN KEY-----\n" + "\n".join(
    base64.b64encode(bytes(range(start, start + 48))).decode() for start in (0, 48, 96)
) + "\nQUJD\n-----END KEY-----\n"  # fmt: skip


def _redacted(pieces: Iterable[bytes], *secrets: str) -> bytes:
    redactor = Redactor(Forms(secrets))
    return b"".join(redactor.take(piece, 0) for piece in pieces) + redactor.end()


def _naively(text: bytes, forms: Forms) -> bytes:
    """Redact a whole text byte by byte, with nothing of the module but the list of forms."""
    spans = [
        (at, at + len(form))
        for form in forms._plain._all
        for at in range(len(text))
        if text.startswith(form, at)
    ]
    places = [at for at in range(len(text)) if not _wraps(text, at)]
    joined = bytes(text[at] for at in places)
    spans += [
        (places[at], places[at + len(form) - 1] + 1)
        for form in forms._coded._all
        for at in range(len(joined))
        if joined.startswith(form, at)
    ]
    spans += [(at, len(text)) for at in range(len(text) - 3) if _ends_in(forms, text, at)]
    out, end = b"", 0
    for first, last in sorted(spans):
        if first >= end:
            out += text[end:first] + STARS
        end = max(end, last)
    return out + text[end:]


def _ends_in(forms: Forms, text: bytes, at: int) -> bool:
    """Tell whether all from there on is the beginning of a secret."""
    if _wraps(text, at):
        return False
    rest = text[at:]
    half = text.endswith(b"\r") and _wraps(text + b"\n", len(text))
    joined = bytes(text[each] for each in range(at, len(text)) if not _wraps(text, each))
    joined = joined[:-1] if half else joined
    return any(form.startswith(rest) for form in forms._plain._all) or any(
        bool(joined) and form.startswith(joined) for form in forms._coded._all
    )


def _wraps(text: bytes, at: int) -> bool:
    """Tell whether there is a line break behind 48 characters of base64."""
    if text[at : at + 2] == b"\r\n":
        at += 1
    if text[at : at + 1] != b"\n":
        return False
    before = text[: at - 1 if text[at - 1 : at] == b"\r" else at][-48:]
    return len(before) == 48 and set(before) <= _BASE64


def _wrapped(data: bytes, width: int, end: bytes) -> bytes:
    coded = base64.b64encode(data)
    return end.join(coded[at : at + width] for at in range(0, len(coded), width))


_values = st.text('abAB/+ "é\n', min_size=6, max_size=24).filter(
    lambda text: len(text.strip()) >= 6
) | st.sampled_from(["secret-secret", "aaaaaa", _PEM])  # fmt: skip
_texts = st.text(min_size=6, max_size=40).filter(
    lambda text: len(text.strip()) >= 6 and "*" not in text
)
_ways: list[Callable[[bytes], bytes]] = [
    bytes,
    base64.b64encode,
    base64.urlsafe_b64encode,
    lambda data: urllib.parse.quote(data, "").encode(),
    lambda data: json.dumps(data.decode()).encode(),
    lambda data: b"\n".join(b"> " + line for line in data.split(b"\n")),
]


@st.composite
def _streams(draw: st.DrawFn) -> tuple[list[str], list[bytes]]:
    """(secrets, what is read): text of the secrets' own characters, and secrets in all forms."""
    secrets = draw(st.lists(_values, min_size=1, max_size=3))
    noise = st.text('abAB/+= "\r\n%YWJhYg', max_size=60).map(str.encode)
    text = b""
    for _ in range(draw(st.integers(1, 5))):
        text += draw(noise)
        data = draw(st.sampled_from(secrets)).encode()
        if draw(st.booleans()):
            around = [draw(st.binary(max_size=80)) for _ in range(2)]
            end = draw(st.sampled_from([b"\n", b"\r\n"]))
            text += _wrapped(data.join(around), draw(st.sampled_from([60, 64, 76])), end)
        else:
            text += draw(st.sampled_from(_ways))(data)
        text = text[: draw(st.integers(len(text) - 3, len(text)))]  # some are not whole
    sizes = draw(st.lists(st.integers(1, 40) | st.integers(1, 1000), min_size=1, max_size=9))
    pieces: list[bytes] = []
    at = 0
    while at < len(text):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(text[at : at + size])
        at += size
    return secrets, pieces


@given(_streams())
@example((["aaaaaa"], [b"a"] * 20))
@example((["foobar", "barbaz"], [b"xfoobar", b"baz foo", b"bar"]))
@settings(max_examples=400)
def test_any_cuts_give_what_the_whole_text_would(stream: tuple[list[str], list[bytes]]) -> None:
    """No form is left wherever reads end, and everything else comes out as it went in."""
    secrets, pieces = stream
    forms = Forms(secrets)
    text = b"".join(pieces)
    assert _redacted(pieces, *secrets) == _naively(text, forms)


@given(_streams(), st.integers(0, 3))
@settings(max_examples=100)
def test_what_is_let_go_after_a_while_never_gives_a_secret_away(
    stream: tuple[list[str], list[bytes]], every: int
) -> None:
    """A prompt must not wait; but half a secret may, as its other half may come minutes later."""
    secrets, pieces = stream
    forms = Forms(secrets)
    redactor = Redactor(forms)
    out = b""
    for number, piece in enumerate(pieces):
        out += redactor.take(piece, number)
        if number % (every + 1) == 0:
            out += redactor.release_older(number)
    out += redactor.end()
    for form in forms._plain._all:
        assert form not in out
    joined = bytes(out[at] for at in range(len(out)) if not _wraps(out, at))
    for form in forms._coded._all:
        assert form not in joined


@given(_streams())
@settings(max_examples=25)
def test_no_more_is_held_back_than_may_begin_a_secret(
    stream: tuple[list[str], list[bytes]],
) -> None:
    """People watch logs as they grow."""
    secrets, pieces = stream
    forms = Forms(secrets)
    redactor = Redactor(forms)
    longest = max(map(len, (*forms._plain._all, *forms._coded._all)))
    for piece in pieces:
        redactor.take(piece, 0)
        kept, out = redactor._kept, redactor._out
        assert len(kept) - out < longest * (1 + 2 / 48) + 2
        assert out == len(kept) or any(_may_begin(forms, kept, at) for at in range(out + 1)), kept


def _may_begin(forms: Forms, text: bytes, at: int) -> bool:
    rest = text[at:]
    joined = bytes(text[each] for each in range(at, len(text)) if not _wraps(text, each))
    return any(form.startswith(rest) for form in forms._plain._all) or any(
        form.startswith(joined.removesuffix(b"\r")) for form in forms._coded._all
    )


@given(_texts, st.binary(max_size=30), st.binary(max_size=30))
@settings(max_examples=100)
def test_base64_of_a_longer_text_hides_the_secret_in_it(
    secret: str, before: bytes, after: bytes
) -> None:
    """All that remains of it are the characters at its ends that it shares with its neighbours."""
    secret = secret.strip()
    size = len(secret.encode())
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        coded = encode(before + secret.encode() + after)
        out = _redacted([coded], secret)
        first = -(-8 * len(before) // 6)
        end = 8 * (len(before) + size) // 6
        assert out.startswith(coded[:first]) or coded.count(coded[first:end]) > 1
        assert STARS in out
        assert coded[first:end] not in out


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_base64_that_is_wrapped_in_the_secret_is_hidden_wherever_it_is_cut(end: bytes) -> None:
    """As base64(1) wraps it, or mail; also between the two characters of a line's end."""
    secret = "a secret of some length"
    for lead in range(30, 50):
        text = b"<" + _wrapped(b"x" * lead + secret.encode() + b"y" * 30, 64, end) + b">"
        whole = _redacted([text], secret)
        first, last = -(-8 * lead // 6), 8 * (lead + len(secret)) // 6
        breaks = [len(end) * (at // 64) for at in (first, last - 1)]
        assert whole == text[: 1 + first + breaks[0]] + STARS + text[1 + last + breaks[1] :]
        for at in range(len(text)):
            assert _redacted([text[:at], text[at:]], secret) == whole
        assert _redacted([text[at : at + 1] for at in range(len(text))], secret) == whole


@pytest.mark.parametrize(
    "encoded",
    [
        urllib.parse.quote("p@ss/w+rd ü~*", ""),
        urllib.parse.quote("p@ss/w+rd ü~*"),
        urllib.parse.quote_plus("p@ss/w+rd ü~*"),
        urllib.parse.quote("p@ss/w+rd ü~*", "").lower(),
        "p%40ss%2Fw%2Brd%20%C3%BC~*",  # encodeURIComponent
        "p%40ss%2Fw%2Brd+%C3%BC%7E*",  # a browser's form
        json.dumps("p@ss/w+rd ü~*")[1:-1],
        r"p@ss\/w+rd ü~*",  # PHP
        "p@ss/w+rd ü~*",
    ],
)
def test_other_programs_encodings_are_known(encoded: str) -> None:
    """A URL in an error message is the way on which most tokens get into logs."""
    assert _redacted([f"<{encoded}>".encode()], "p@ss/w+rd ü~*") == b"<***>"


@pytest.mark.parametrize(
    "encoded",
    [
        r"""\u003cp\u003e\u0026\"\u003d\u0027+ü\\u00e9/;:,@""",  # Gson
        r"""\u003cp\u003e\u0026\"='+ü\\u00e9/;:,@""",  # Go, Rails
        r"""\u003Cp\u003E\u0026\u0022=\u0027\u002B\u00FC\\u00e9/;:,@""",  # .NET
        "%3Cp%3E&%22=%27+%C3%BC%5Cu00e9%2F%3B:%2C@",  # a segment of a path of Go's
        "%3Cp%3E&%22=%27+%C3%BC%5Cu00e9/;:,@",  # a path of Go's
        "%3Cp%3E&%22=%27+%C3%BC%5Cu00e9%2F;%3A,%40",  # a password of Go's
        "%3Cp%3E&%22%3D'+%C3%BC%5Cu00e9%2F%3B%3A,%40",  # a password of a browser's
        "%3Cp%3E&%22='+%C3%BC%5Cu00e9/;:,@",  # encodeURI
    ],
)
def test_what_is_spared_html_or_a_part_of_a_url_is_known(encoded: str) -> None:
    """`kubectl`, `docker` and `gh` write JSON as Go does, and clients name the URL that failed."""
    secret = r"""<p>&"='+ü\u00e9/;:,@"""
    assert _redacted([f"[{encoded}]".encode()], secret) == b"[***]"


def test_a_key_is_hidden_line_by_line_and_as_a_whole() -> None:
    """Programs indent it, prefix it, or put all of it on one line; a short line goes with all."""
    whole = f"<{_PEM.strip()}>".encode()
    assert _redacted([whole], _PEM) == b"<***>"
    assert _redacted([whole.replace(b"\n", b"\r\n")], _PEM).count(b"***") == 5
    assert _redacted([json.dumps(_PEM).encode()], _PEM) == b'"***\\n"'
    indented = b"".join(b"   " + line.encode() + b"\n" for line in _PEM.splitlines())
    assert _redacted([indented], _PEM) == b"   ***\n" * 4 + b"   QUJD\n   ***\n"
    assert len("QUJD") < MIN_LINE_BYTES


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (b"the secret-val", b"the ***"),
        (b"the secr", b"the ***"),
        (b"the sec", b"the sec"),
        (b"secret-valuesecret-v", b"******"),
        (b"c2VjcmV0LXZh", b"***"),
    ],
)
def test_who_was_killed_in_the_middle_of_a_secret_shows_none_of_it(
    written: bytes, shown: bytes
) -> None:
    """A buffer of 8 KiB may end in the middle of it, and what follows is lost with the program."""
    assert _redacted([written], "secret-value") == shown
    assert _redacted([written[at : at + 1] for at in range(len(written))], "secret-value") == shown


def test_what_was_let_go_is_followed_by_stars_at_the_end() -> None:
    """Three bytes were a prompt, perhaps; with six it was a secret."""
    redactor = Redactor(Forms(["secret-value"]))
    assert redactor.take(b"sec", 0) == b""
    assert redactor.release_older(0) == b"sec"
    assert redactor.take(b"ret", 1) == b""
    assert redactor.end() == b"***"


def test_three_bytes_are_let_go_and_still_count() -> None:
    """The rest of the secret is hidden when it comes, and four bytes are not let go."""
    redactor = Redactor(Forms(["secret-value"]))
    assert redactor.take(b"your choice: s", 5) == b"your choice: "
    assert redactor.release_older(4) == b""
    assert redactor.release_older(5) == b"s"
    assert redactor.take(b"ecret", 6) == b""
    assert redactor.release_older(100) == b""
    assert redactor.take(b"-value!", 7) == b"***!"
    assert redactor.end() == b""
