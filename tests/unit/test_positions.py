"""Ids of events: what they say comes back, and what is none is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import positions, texts
from api.live import group_positions, runs
from api.live.group_positions import GroupPosition, Walk
from api.live.runs import Runs
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


@given(st.dictionaries(st.integers(1, 60), _positions), st.booleans())
def test_a_position_in_a_group_comes_back(told: dict[int, Position], all_told: bool) -> None:
    """In each task, and those that are over by the attempt with which they ended."""
    position = GroupPosition.of(sorted(told), told)
    if all_told:
        position = position.finished()
    again = group_positions.parse(str(position)).counted(sorted(told))
    assert str(again) == str(position)
    assert again.all_told == all_told
    assert again.known == position.known == len(told)
    assert again.within == {task: at for task, at in told.items() if at.told != "end"}
    for task, at in told.items():
        assert again.ended_at(task) == (at.attempt if at.told == "end" else None)


@given(st.text(max_size=40) | st.binary(max_size=40).map(lambda raw: raw.hex()))
def test_any_text_is_a_position_in_a_group_or_refused(text: str) -> None:
    """Never another error."""
    try:
        group_positions.parse(text)
    except BadPositionError:
        return


def test_ten_thousand_tasks_have_a_short_position() -> None:
    """It is a header: proxies take some 8 KB."""
    tasks = range(1_000_000, 1_020_000, 2)
    told = {task: Position(1, 10**6, 10**4, 10**5, "end") for task in tasks}
    told |= {task: Position(1, 10**6, 10**4, 10**5) for task in tasks[::50]}
    position = GroupPosition.of(tasks, told)
    assert len(str(position)) < 5000
    whole = GroupPosition.of(tasks, {task: Position(1, told="end") for task in tasks})
    assert len(str(whole)) < 20


def test_a_position_in_a_group_that_nobody_gave_is_refused() -> None:
    """Runs that overlap, attempts that the database has no number for, half of one."""
    late = GroupPosition({7: Position(2**40)}, Runs((9,), (9,), (1,)))
    doubled = GroupPosition({}, Runs((5, 6), (6, 7), (1, 2)))
    for text in (str(late), str(doubled), str(GroupPosition())[:-1]):
        with pytest.raises(BadPositionError):
            group_positions.parse(text)


@given(
    st.sets(st.integers(1, 40), min_size=1, max_size=12),
    st.lists(st.tuples(st.integers(0, 11), st.sampled_from([0, 1, 1, 2])), max_size=30),
)
def test_runs_are_what_members_ended_with(numbers: set[int], steps: list[tuple[int, int]]) -> None:
    """As few as can be, whatever other tasks lie between; compared with a dict."""
    members = sorted(numbers)
    expected: dict[int, int] = {}
    those = runs.NONE
    for index, attempt in steps:
        at = index % len(members)
        member = members[at]
        around = (members[at - 1] if at else None, (*members, None)[at + 1])
        if member in expected:
            those = those.without(member, *around)
            del expected[member]
        if attempt:
            those = those.added(member, attempt, *around)
            expected[member] = attempt
        assert {each: those.attempt_of(each) for each in members} == {
            each: expected.get(each) for each in members
        }
        assert those == runs.runs_of((each, expected.get(each)) for each in members)


@given(
    st.dictionaries(st.integers(1, 60), _positions, min_size=1),
    st.lists(st.tuples(st.integers(0, 59), _positions), max_size=20),
)
def test_a_walk_comes_to_the_same_position(
    told: dict[int, Position], moves: list[tuple[int, Position]]
) -> None:
    """Whatever order the tasks of a group go on in."""
    members = sorted({*told, *range(1, 61, 3)})
    walk = Walk(GroupPosition.of(members, told))
    for index, to in moves:
        task = members[index % len(members)]
        if told.get(task, Position()).told == "end":
            continue  # nothing follows
        at = members.index(task)
        walk.move(task, to, members[at - 1] if at else None, (*members, None)[at + 1])
        told[task] = to
        assert walk.at(task) == (Position() if to.told == "end" else to)
    expected = GroupPosition.of(members, told)
    assert str(walk.position()) == str(expected)
    assert walk.position().known == expected.known


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
