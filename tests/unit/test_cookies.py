"""Cookies of people who logged in: what they prove, and what they do not."""

import time

import pytest

from api import cookies

_KEY, _DIGEST = b"k" * 32, b"d" * 32
_TEXT = cookies.seal(_KEY, "17", _DIGEST, 1000)


def _read(text: str) -> cookies.Login:
    login = cookies.read(f"a=b; {cookies.NAME}={text}; c=d".encode())
    assert login is not None
    return login


def test_a_cookie_proves_its_token_until_its_time_is_over() -> None:
    """To every server that has the key, without a look at anything."""
    login = _read(_TEXT)
    assert login.ref == "17"
    assert login.proves(_KEY, _DIGEST, 999.9)
    assert not login.proves(_KEY, _DIGEST, 1000)


def test_a_cookie_proves_nothing_else() -> None:
    """Another token under that number, another key, another number, a later end."""
    assert not _read(_TEXT).proves(_KEY, b"e" * 32, 1)
    assert not _read(_TEXT).proves(b"l" * 32, _DIGEST, 1)
    assert not _read(_TEXT.replace("17.", "18.")).proves(_KEY, _DIGEST, 1)
    assert not _read(_TEXT.replace(".1000.", ".9999.")).proves(_KEY, _DIGEST, 1)
    assert not _read(_TEXT[:-1] + "x").proves(_KEY, _DIGEST, 1)


def test_no_token_is_in_it() -> None:
    """Whoever finds the cookie has a few hours, not the token; nor its digest."""
    assert b"d" * 4 not in _TEXT.encode()
    assert _DIGEST.hex()[:8] not in _TEXT


@pytest.mark.parametrize(
    "header",
    [
        b"", b";;;", b"dw_login", b"dw_login=", b"dw_login=1", b"dw_login=1.2", b"dw_login=.1.x",
        b"dw_login=1.-5.x", b"dw_login=1.\xc2\xb2.x", b"dw_login=1.1.\xff", b"other=1.1000.x",
        b'dw_login="', b"\x00=\x00", b"dw_login=1." + b"9" * 5000 + b".",
    ],
)  # fmt: skip
def test_what_is_no_cookie_of_ours_is_nobodys(header: bytes) -> None:
    """Browsers send what they like; anybody can write one."""
    login = cookies.read(header)
    assert login is None or not login.proves(_KEY, _DIGEST, 1)


def test_cookies_of_others_do_not_hide_ours() -> None:
    """What another program set for this host may be no cookie at all, by the rules."""
    ours = f"{cookies.NAME}={_TEXT}"
    for header in (f'a"; {ours}', f"a b=[1]; {ours}; @=;", f"xdw_login=1.2.3;{ours}"):
        login = cookies.read(header.encode())
        assert login is not None, header
        assert login.proves(_KEY, _DIGEST, 1), header


def test_no_cookie_takes_long_to_read() -> None:
    """Anybody may send one, and all others wait while it is read."""
    for header in (b'dw_login="' + b"\\" * 400_000 + b'"', b"dw_login=;" * 40_000):
        began = time.thread_time()
        assert cookies.read(header) is None
        assert time.thread_time() - began < 0.2


@pytest.mark.parametrize(
    ("origin", "host", "same"),
    [
        (b"http://api:3000", b"api:3000", True),
        (b"https://api", b"api", True),
        (b"https://evil", b"api", False),
        (b"https://api.evil", b"api", False),
        (b"https://api:444", b"api", False),
        (b"null", b"api", False),
        (b"", b"", False),
        (b"http://[", b"api", False),
    ],
)
def test_only_our_own_pages_are_of_the_same_origin(
    origin: bytes, host: bytes, *, same: bool
) -> None:
    """`null` is what a sandboxed page of a stranger says."""
    assert cookies.same_origin({b"origin": origin, b"host": host}) is same
    assert not cookies.same_origin({b"host": host})
    assert not cookies.same_origin({b"origin": origin})


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        (None, True),
        (b"localhost", True),
        (b"LocalHost:3000", True),
        (b"api.localhost", True),
        (b"127.0.0.1:3000", True),
        (b"[::1]:3000", True),
        (b"", False),
        (b"evil.example:3000", False),
        (b"127.0.0.1.evil.example", False),
        (b"localhost.evil.example", False),
        (b"evil@localhost@evil", False),
        (b"2130706433.", False),
        (b"[", False),
        (b"\xff", False),
    ],
)
def test_a_name_that_anybody_can_give_is_not_this_machines(
    host: bytes | None, *, ours: bool
) -> None:
    """Whoever owns a name may let it mean 127.0.0.1: an address cannot mean another."""
    assert cookies.names_loopback(host) is ours
