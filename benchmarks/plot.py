"""Draws the ratios to the limits as bars, readable on light and on dark pages."""

import drawsvg  # type: ignore[import-untyped]  # it has no hints

from benchmarks.sections import Section

_WIDTH = 820
_ROW = 20
_BAR = 12
_HEADING = 28
_TOP = 24
_CHAR = 6.7  # of a sans-serif letter of that size, on the wide side
_FONT = 12
_VALUE = 44  # room for the figures on the right

# As far from white as from a dark page's #0d1117: 4.3 : 1. A bar needs 3 : 1.
_GREY = "#797979"
_BLUE = "#4a86c0"

Row = tuple[str, float]


def rows(section: Section) -> list[Row]:
    """The bars of one section: name and ratio."""
    return [
        (each.name, each.info["of_limit"]) for each in section.benchmarks if "of_limit" in each.info
    ]


def svg(sections: list[Section]) -> str:
    """Draw them all, a block for each section."""
    blocks = [(section.title, found) for section in sections if (found := rows(section))]
    names = [name for _, found in blocks for name, _ in found]
    most = max((ratio for _, found in blocks for _, ratio in found), default=1.0)
    left = round(max(map(len, names), default=0) * _CHAR) + 10
    scale = (_WIDTH - left - _VALUE) / max(most, 1.0)
    height = _TOP + sum(_HEADING + _ROW * len(found) for _, found in blocks) + 10

    drawing = drawsvg.Drawing(_WIDTH, height, font_family="sans-serif")
    drawing.append_title("What part of its limit each benchmark reaches")
    for ratio in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = left + round(ratio * scale)
        line = {"stroke_width": 2} if ratio == 1.0 else {"stroke_width": 1, "opacity": 0.4}
        drawing.append(drawsvg.Line(x, _TOP, x, height, stroke=_GREY, **line))
        drawing.append(_text("limit" if ratio == 1.0 else f"{ratio:g}", x, _TOP - 8, "middle"))
    y = _TOP
    for title, found in blocks:
        drawing.append(_text(title, 0, y + _HEADING - 9, "start", font_weight="bold"))
        y += _HEADING
        for name, ratio in found:
            middle = y + _ROW // 2
            long = round(ratio * scale, 1)
            drawing.append(drawsvg.Rectangle(left, middle - _BAR // 2, long, _BAR, fill=_BLUE))
            drawing.append(_text(name, left - 8, middle + 4, "end"))
            drawing.append(_text(f"{ratio:.2f}", _WIDTH, middle + 4, "end"))
            y += _ROW
    return str(drawing.as_svg())


def _text(text: str, x: float, y: float, anchor: str, **more: str) -> drawsvg.Text:
    return drawsvg.Text(text, _FONT, x, y, text_anchor=anchor, fill=_GREY, **more)
