"""Ids of events: what they say comes back, and what is none is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import positions, texts
from api.positions import BadPositionError, Position

_numbers = st.integers(0, 10**15)
_positions = st.builds(
    Position,
    st.integers(0, 1000),
    _numbers,
    _numbers,
    _numbers,
    st.sampled_from(["", "log", "end"]),
)


@given(_positions)
def test_a_position_comes_back(position: Position) -> None:
    """To the byte of both streams."""
    assert positions.parse(str(position)) == position


@pytest.mark.parametrize(
    "text",
    ["", "1", "1.2.3", "1.2.3.4.5", "1.2.3.4.over", "-1.2.3.4", "1.2.3.4 ", "1.2.3." + "9" * 19,
     "१.2.3.4", "1.2.3.4\n"],
)  # fmt: skip
def test_what_is_no_position_is_refused(text: str) -> None:
    """A number beyond the database's would be an error there."""
    with pytest.raises(BadPositionError):
        positions.parse(text)


@given(st.text(max_size=20), st.integers(0, 40))
def test_no_character_is_cut(text: str, size: int) -> None:
    """What is kept is UTF-8, and all of it but an unfinished character."""
    data = text.encode()[:size]
    kept = data[: texts.whole(data)]
    assert kept.decode() == data.decode(errors="ignore")


@given(st.binary(max_size=40))
def test_text_that_is_not_exact_brings_its_bytes(data: bytes) -> None:
    """Nothing of what a task wrote is lost on the way."""
    text, exact = texts.decoded(data)
    assert (text.encode() if exact is None else exact) == data
    assert len(data) - texts.whole(data) <= 3
