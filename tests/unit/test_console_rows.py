"""Lines of a log as a page shows them."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.console.rows import MAX_CHARACTERS, Segment, paint, painted, row
from schema.logs import LogLine


def _text(painted_: str | tuple[Segment, ...]) -> str:
    return painted_ if isinstance(painted_, str) else "".join(each[0] for each in painted_)


def test_a_plain_line_is_itself() -> None:
    """Nearly all are: nothing is made of them."""
    line = LogLine(line=3, stream="stdout", at_us=5, offset=0, text="a\tb <b>&amp;</b>")
    assert row(line).x == "a\tb <b>&amp;</b>"
    assert not row(line).e


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ("\x1b[31mred\x1b[0m plain", [("red", "fg1", "", ""), (" plain", "", "", "")]),
        ("a \x1b[1;4;92mb\x1b[m", [("a ", "", "", ""), ("b", "bold underline fg10", "", "")]),
        ("\x1b[7mturned", [("turned", "fr br", "", "")]),
        ("\x1b[7;31mturned", [("turned", "fr bg1", "", "")]),
        ("\x1b[38;5;208;48;5;3mx", [("x", "bg3", "#ff8700", "")]),
        ("\x1b[38;2;1;2;3;48;2;255;0;10mx", [("x", "", "#010203", "#ff000a")]),
        ("\x1b[2K\x1b[1Gplain", "plain"),
        ("\x1b]0;title\x07\x1b\\plain", "plain"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("10 %\r50 %\r\x1b[32m100 %", [("100 %", "fg2", "", "")]),
        ("over\r", "over"),
        ("a\x07b\x00\x7f", "a␇b␀␡"),
        ("\x1b[", "\u241b["),
    ],
)
def test_escape_sequences_become_colours_or_nothing(
    text: str, segments: str | list[Segment]
) -> None:
    """As a terminal shows them; no link, no title, no bell."""
    made = paint(text)
    assert (made if isinstance(made, str) else list(made)) == segments


@given(st.text(alphabet="\x1b[]0123456789;m\r\n\x07\\Kab<>&\u202e", max_size=60))
def test_no_text_breaks_it_or_keeps_a_control_character(text: str) -> None:
    """What a task writes may be anything."""
    shown = _text(paint(text.replace("\n", "")))
    assert not any(ord(letter) < 32 and letter != "\t" for letter in shown)


def test_a_long_line_is_cut_and_says_so() -> None:
    """The browser gets no megabyte for one line."""
    made = painted("x" * (MAX_CHARACTERS + 7), "stderr", 1, cut=3)
    assert made.x == "x" * MAX_CHARACTERS
    assert made.c == 10
    assert made.e


@pytest.mark.parametrize(
    "text",
    [
        "\x1b]" * 8192,
        "\x1b]0;" * 4096 + "\x1b\\",
        "\x1b[" + "9" * 16_000 + "mx",
        "\x1b[" + "1;" * 8000 + "mx",
        "\x1b[1mx" * 3276,
        "\x1b[" * 8192,
        "\x1b(" * 8192,
    ],
    ids=["titles", "begun titles", "number", "numbers", "colours", "begun", "sets"],
)
def test_no_line_takes_long_or_fails(text: str) -> None:
    """A task could stall the server for all with one line of 16 KiB: it took 4.6 s."""
    began = time.process_time()
    assert isinstance(paint(text), str)
    assert time.process_time() - began < 0.3
