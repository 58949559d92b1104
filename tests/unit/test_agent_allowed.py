"""ALLOW: what a pattern lets pass, and what can never hide behind a wildcard."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.allowed import Allowed, pattern

_OPERATORS = ";&|<>()$`\n\r"


@pytest.mark.parametrize(
    ("glob", "command"),
    [
        ("pytest *", "pytest -k 'a or b' tests/x.py"),
        ("pytest *", 'pytest "[a]" {b,c} ~ # d'),
        ("pytest *", "pytest "),
        ("make test && make lint", "make test && make lint"),
        ("make * && make *", "make a && make b"),
        ("run [0-9][!a]", "run 7b"),
        ("run []x]", "run ]"),
        ("a?c", "abc"),
        ("a**c*", "ac"),
        ("echo [", "echo ["),
        ("a\\*", "a\\b"),
    ],
)
def test_what_matches_as_a_whole_passes(glob: str, command: str) -> None:
    """With quotes, brackets and what else is harmless."""
    assert Allowed([glob], []).refusal(command, ()) is None


@pytest.mark.parametrize(
    ("glob", "command"),
    [
        ("pytest *", "pytest"),
        ("pytest *", "pytestx y"),
        ("pytest *", "sudo pytest x"),
        ("pytest *", "A=b pytest x"),
        ("pytest *", "pytest x; rm -rf /"),
        ("pytest *", "pytest x\nrm -rf /"),
        ("pytest *", "pytest x\r\nrm -rf /"),
        ("pytest *", "pytest x & rm -rf /"),
        ("pytest *", "pytest $(rm -rf /)"),
        ("pytest *", "pytest `rm -rf /`"),
        ("pytest *", "pytest <(rm -rf /)"),
        ("pytest *", "pytest > /etc/passwd"),
        ("pytest ?", "pytest ;"),
        ("pytest x[!a]y", "pytest x;y"),
        ("pytest x[;]y", "pytest x;y"),
        ("make * && make *", "make a && make b && rm -rf /"),
        ("run [0-9]", "run a"),
    ],
)
def test_what_does_more_is_refused(glob: str, command: str) -> None:
    """The reason names the setting, so that whoever reads it knows where to look."""
    why = Allowed([glob], []).refusal(command, ())
    assert why is not None
    assert f"ALLOW={glob!r}" in why


@given(st.text(), st.sampled_from(_OPERATORS), st.text())
def test_no_wildcard_stands_for_an_operator(before: str, operator: str, after: str) -> None:
    """Wherever it is, and whatever is around it."""
    assert not pattern("x *").fullmatch(f"x {before}{operator}{after}")
    assert not pattern("x * *").fullmatch(f"x {before}{operator}{after} ")


@given(st.lists(st.sampled_from(["a", "b", "*", "?"]), max_size=6), st.text("ab", max_size=8))
def test_it_matches_as_a_plain_search_does(pieces: list[str], command: str) -> None:
    """Settling each `*` early must not lose a match."""

    def matches(glob: str, text: str) -> bool:
        if not glob:
            return not text
        if glob[0] == "*":
            return any(matches(glob[1:], text[n:]) for n in range(len(text) + 1))
        return bool(text) and glob[0] in {"?", text[0]} and matches(glob[1:], text[1:])

    glob = "".join(pieces)
    assert bool(pattern(glob).fullmatch(command)) == matches(glob, command)


def test_a_long_command_is_decided_quickly() -> None:
    """Tried in every way, this one would take years, and the agent's loop with it."""
    began_s = time.perf_counter()
    assert not pattern("*a" * 20 + "*c").fullmatch("a" * 131_000)
    assert time.perf_counter() - began_s < 2


def test_variables_must_be_named() -> None:
    """BASH_ENV alone makes any command out of any other."""
    allowed = Allowed(["true"], ["CI_*", "SEED"])
    assert allowed.refusal("true", ["CI_JOB", "SEED"]) is None
    why = allowed.refusal("true", ["SEED", "BASH_ENV"])
    assert why is not None
    assert "'BASH_ENV': ALLOW_ENV" in why


def test_nothing_said_is_everything() -> None:
    """As it was before there was such a setting."""
    assert Allowed([], []).refusal("rm -rf x; true", ["BASH_ENV"]) is None
