"""Names with slashes in paths: one segment for the router, whatever the name."""

from urllib.parse import quote, unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.paths import name_in, routed


def _routed(raw: str) -> str:
    return routed(unquote_to_bytes(raw).decode(errors="replace"), raw.encode())


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        ("/groups/nightly", "/groups/nightly"),
        ("/groups/a/b", "/groups/a%2Fb"),
        ("/groups/a%2Fb/logs", "/groups/a%2Fb/logs"),
        ("/groups/a/b/logs/live", "/groups/a%2Fb/logs/live"),
        ("/groups/a%2Flogs", "/groups/a%2Flogs"),
        ("/groups/a/b/cancel", "/groups/a%2Fb/cancel"),
        ("/groups/a/b/retry", "/groups/a%2Fb/retry"),
        ("/tasks/1/logs", "/tasks/1/logs"),
        ("/%67roups/a", "/groups/a"),
    ],
)
def test_the_name_is_one_segment(raw: str, path: str) -> None:
    """Also one that was not quoted; what may stand behind it is not taken for it."""
    assert _routed(raw) == path


@given(st.text(min_size=1, max_size=30), st.sampled_from(["", "/logs", "/logs/live", "/cancel"]))
def test_a_quoted_name_comes_back(name: str, behind: str) -> None:
    """Whatever it is."""
    path = _routed(f"/groups/{quote(name, safe='')}{behind}")
    head, _, segment = path.removesuffix(behind).rpartition("/")
    assert head == "/groups"
    assert name_in(segment) == name
