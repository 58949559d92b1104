"""Events of a live log as rows: however the output was cut into pieces."""

import random
from typing import Any

import msgspec
import pytest

from api import positions
from api.console.painter import Painter
from api.live import events
from api.positions import Position
from schema.logs import Output, Piece


def _told(frame: bytes) -> dict[str, Any]:
    """The data of the event `rows`, and its id as `id`."""
    fields = dict(line.partition(b": ")[::2] for line in frame.strip().split(b"\n"))
    assert fields[b"event"] == b"rows"
    data: dict[str, Any] = msgspec.json.decode(fields[b"data"])
    return data | {"id": positions.parse(fields[b"id"].decode())}


class _Task:
    """Writes to both streams, and tells it as the live log would."""

    def __init__(self) -> None:
        self.position = Position(1)

    def output(self, *written: tuple[str, str], closed: bool = False) -> bytes:
        pieces = []
        for stream, text in written:
            open_ = not text.endswith("\n") and not closed
            piece = Piece(
                stream=stream, offset=self.position.offset(stream),  # type: ignore[arg-type]
                at_us=1, line=self.position.lines + 1, text=text, open=open_,
            )  # fmt: skip
            pieces.append(piece)
            ends = text.count("\n") + (closed and not text.endswith("\n"))
            end = self.position.offset(stream) + len(text.encode())  # type: ignore[arg-type]
            self.position = msgspec.structs.replace(
                self.position, lines=self.position.lines + ends, **{stream: end}
            )
        return events.event("output", [Output(17, 1, tuple(pieces))], self.position)


def test_whole_lines_have_numbers_that_follow_one_another() -> None:
    """Over both streams."""
    told = _told(Painter().frame(_Task().output(("stdout", "a\nb\n"), ("stderr", "c\n"))))
    assert (told["first"], told["open"]) == (1, [])
    assert [(row["x"], row.get("e", False)) for row in told["rows"]] == [
        ("a", False), ("b", False), ("c", True),
    ]  # fmt: skip


def test_an_open_line_is_told_whole_each_time() -> None:
    """A sequence that was cut in two colours it all the same."""
    task, painter = _Task(), Painter()
    first = _told(painter.frame(task.output(("stdout", "x\nab\x1b[3"))))
    assert [row["x"] for row in first["rows"]] == ["x"]
    second = _told(painter.frame(task.output(("stdout", "1mcd"))))
    assert second["rows"] == []
    assert second["open"][0]["x"] == [["ab", "", "", ""], ["cd", "fg1", "", ""]]
    third = _told(painter.frame(task.output(("stdout", "e\n"))))
    assert third["first"] == 2
    assert third["rows"][0]["x"] == [["ab", "", "", ""], ["cde", "fg1", "", ""]]
    assert third["open"] == []


def test_an_id_stands_before_the_open_lines() -> None:
    """Who comes back with it is told them from their beginning."""
    task, painter = _Task(), Painter()
    told = _told(painter.frame(task.output(("stdout", "one\nré"), ("stderr", "tw"))))
    assert told["id"] == Position(1, stdout=4, stderr=0, lines=1)
    told = _told(painter.frame(task.output(("stderr", "o\n"))))
    assert told["id"] == Position(1, stdout=4, stderr=4, lines=2)


def test_progress_that_writes_over_itself_stays_small() -> None:
    """It may go on for hours in one line; and its id does not go back by all of that."""
    task, painter = _Task(), Painter()
    for percent in range(9_000):
        told = _told(painter.frame(task.output(("stderr", f"\r{percent} of 9000 is done"))))
    assert told["open"] == [{"t": 1, "x": "8999 of 9000 is done", "e": True}]
    assert told["id"] == task.position
    told = _told(painter.frame(task.output(("stderr", "\rdone\n"))))
    assert told["rows"][0]["x"] == "done"


def test_other_events_pass_as_they_are() -> None:
    """Also where one frame has several of them."""
    task = _Task()
    status = events.event("status", {"task": 17})
    frame = status + task.output(("stdout", "a\n"))
    made = Painter().frame(frame)
    assert made.startswith(status + b"event: rows\n")
    for each in (status, events.HELLO, events.KEEP_ALIVE):
        assert Painter().frame(each) == each


@pytest.mark.parametrize("seed", range(20))
def test_however_it_is_cut_the_lines_are_the_same(seed: int) -> None:
    """Pieces end anywhere, also in the middle of a line of either stream."""
    chance = random.Random(seed)
    texts = {
        stream: "".join(f"{stream} {n} \x1b[3{n % 8}mé\n" for n in range(30))
        for stream in ("stdout", "stderr")
    }
    left = dict(texts)
    task, painter = _Task(), Painter()
    rows: list[dict[str, Any]] = []
    while any(left.values()):
        stream = chance.choice([name for name, text in left.items() if text])
        size = chance.randrange(1, 40)
        piece, left[stream] = left[stream][:size], left[stream][size:]
        told = _told(painter.frame(task.output((stream, piece))))
        if told["rows"]:
            assert told["first"] == len(rows) + 1
            rows += told["rows"]
    for stream, text in texts.items():
        shown = [row["x"] for row in rows if row.get("e", False) == (stream == "stderr")]
        assert ["".join(part[0] for part in each) for each in shown] == [
            f"{stream} {n} é" for n in range(text.count("\n"))
        ]
        assert [each[-1][1] for each in shown] == [f"fg{n % 8}" for n in range(30)]
