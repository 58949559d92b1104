"""Lines of a log as the page shows them: text with its colours. Pure.

A line is painted by itself: what colour the line before it left behind does not count, so that a
line looks the same from wherever somebody comes to it.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import TypeAlias

from msgspec import Struct
from rich.ansi import AnsiDecoder
from rich.color import Color, ColorType
from rich.style import Style

from schema.logs import LogLine
from schema.tasks import Stream

MAX_CHARACTERS = 16_384
"""More of one line nobody reads in a list."""

_ESCAPE = "\x1b"
# Shown as what they are: ␀, ␇, ␡. A tab stays one.
_CONTROLS = {code: 0x2400 + code for code in range(32) if chr(code) != "\t"} | {127: 0x2421}
_OF_NO_USE = re.compile(r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b\[[0-?]{65,}[ -/]*[@-~]?")
"""Titles and links, and sequences that are longer than any colour's."""

_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~])?")
_MOST_ESCAPES = 400
"""Of one line: with more it has no colours."""

_CACHED_CHARACTERS = 500
_COLOURS = 16  # with names of their own in the style sheet

Segment: TypeAlias = tuple[str, str, str, str]
"""Text, classes, and a colour of its own for the text and behind it (`#rrggbb`, or nothing)."""


class Row(Struct, frozen=True, omit_defaults=True):
    """One line: short names, since a page has hundreds."""

    t: int
    """When its end was read, in microseconds since 1970."""
    x: str | tuple[Segment, ...]
    e: bool = False
    """It is of stderr."""
    c: int = 0
    """So much of its end is left out, in bytes or characters."""


def row(line: LogLine) -> Row:
    """A line of a page."""
    return painted(line.text, line.stream, line.at_us, line.cut)


def painted(text: str, stream: Stream, at_us: int, cut: int = 0) -> Row:
    """What a line looks like."""
    cut += max(0, len(text) - MAX_CHARACTERS)
    return Row(at_us, paint(text[:MAX_CHARACTERS]), stream == "stderr", cut)


def paint(text: str) -> str | tuple[Segment, ...]:
    """Text without escape sequences, in pieces of one look; one that has none is itself.

    What was written over with a carriage return is left out, as a terminal leaves it.
    """
    shown = text.rstrip("\r").rpartition("\r")[2]
    if _ESCAPE not in shown:
        return shown.translate(_CONTROLS)
    return _cached(shown) if len(shown) <= _CACHED_CHARACTERS else _painted(shown)


def is_dear(escapes: int) -> bool:
    """Whether to paint lines with so many escape sequences beside the event loop."""
    return escapes > _MOST_ESCAPES


def _painted(shown: str) -> str | tuple[Segment, ...]:
    """Paint with rich, which no line may keep busy for long or make fail.

    It looks for the end of each title and link in all that follows: 4.6 s for a line of 16 KiB
    without an end. It reads numbers of any length. A sequence costs it 30 us.
    """
    shown = _OF_NO_USE.sub("", shown).replace("\x1b]", "\u241b]")
    if shown.count(_ESCAPE) > _MOST_ESCAPES:
        return _SEQUENCE.sub("", shown).translate(_CONTROLS)
    decoded = AnsiDecoder().decode_line(shown)
    plain = decoded.plain
    segments: list[Segment] = []
    end = 0
    for start, stop, style in decoded.spans:
        if start > end:
            segments.append((plain[end:start].translate(_CONTROLS), "", "", ""))
        assert isinstance(style, Style)  # what the decoder makes of a sequence
        segments.append((plain[start:stop].translate(_CONTROLS), *_look(style)))
        end = stop
    if end < len(plain):
        segments.append((plain[end:].translate(_CONTROLS), "", "", ""))
    if any(any(each[1:]) for each in segments):
        return tuple(segments)
    return "".join(_texts(segments))


_cached = lru_cache(2048)(_painted)
"""Those who watch the same lines share what they look like."""


def _texts(segments: Iterable[Segment]) -> Iterable[str]:
    return (each[0] for each in segments)


def _look(style: Style) -> tuple[str, str, str]:
    text, behind = style.color, style.bgcolor
    letters = "fg", "bg"
    if style.reverse:
        text, behind = behind, text
        letters = "fr", "br"  # where there is no colour the page's own change places, too
    classes = [
        name
        for name, on in (
            ("bold", style.bold), ("dim", style.dim), ("italic", style.italic),
            ("underline", style.underline or style.underline2), ("strike", style.strike),
            ("conceal", style.conceal),
        )
        if on
    ]  # fmt: skip
    colours = ["", ""]
    for place, colour in enumerate((text, behind)):
        if colour is None or colour.is_default:
            if style.reverse:
                classes.append(letters[place])
        elif (named := _named(colour)) is not None:
            classes.append(f"{('fg', 'bg')[place]}{named}")
        else:
            colours[place] = colour.get_truecolor().hex
    return " ".join(classes), colours[0], colours[1]


def _named(colour: Color) -> int | None:
    number = colour.number
    if colour.type is not ColorType.TRUECOLOR and number is not None and number < _COLOURS:
        return number
    return None
