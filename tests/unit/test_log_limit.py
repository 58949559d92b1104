"""When an attempt is marked as cut: at once, then now and then, and never without a commit."""

from api.log_limit import Beyond, CutMarks

_OUT, _ERR, _OTHER = Beyond((7, 1), 4), Beyond((7, 1), 8), Beyond((8, 1), 4)


def test_a_mark_is_written_once_and_again_while_more_comes() -> None:
    """A statement for each chunk that is dropped would be a load; and silence must mean silence."""
    now_s = 1000.0
    marks = CutMarks(silence_s=3600, clock=lambda: now_s)
    assert marks.due([_OUT, _OUT, _ERR, _OTHER]) == {(7, 1): 12, (8, 1): 4}
    assert marks.due([_OUT]) == {(7, 1): 4}, "it was not committed"
    marks.written([_OUT])
    assert marks.due([_OUT, _ERR]) == {(7, 1): 8}
    now_s += 59
    marks.written([_OUT, _ERR])
    assert marks.due([_OUT, _ERR]) == {}
    now_s += 1
    assert marks.due([_OUT, _ERR]) == {(7, 1): 4}, "another one's commit is not its own"


def test_short_silences_are_told_apart_too() -> None:
    """PULLED_SILENCE_S may be seconds."""
    now_s = 0.0
    marks = CutMarks(silence_s=4, clock=lambda: now_s)
    marks.written([_OUT])
    assert marks.due([_OUT]) == {}
    now_s += 1
    assert marks.due([_OUT]) == {(7, 1): 4}


def test_only_so_many_are_remembered() -> None:
    """Memory is bounded: what is forgotten is marked once more."""
    marks = CutMarks(silence_s=3600, clock=lambda: 0.0)
    marks.written(Beyond((number, 1), 4) for number in range(10_000))
    assert len(marks._marked) == 8192
    assert marks.due([Beyond((9_999, 1), 4)]) == {}
    assert marks.due([Beyond((0, 1), 4)]) == {(0, 1): 4}
