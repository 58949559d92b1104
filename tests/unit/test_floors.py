"""Floors: claims start where the last one ended, and never behind a task that waits."""

from hypothesis import given, settings
from hypothesis import strategies as st

from api.floors import Floors, Look
from api.store.tasks import Queued

_LANE, _PRIORITY = 3, 5


def _places(numbers: list[int]) -> list[Queued]:
    return [Queued(_LANE, _PRIORITY, number) for number in numbers]


_steps = st.lists(
    st.tuples(st.sampled_from(["queue", "begin", "end", "fail"]), st.integers(1, 12)), max_size=40
)


@given(_steps)
@settings(max_examples=500)
def test_no_floor_is_above_a_task_that_waits(steps: list[tuple[str, int]]) -> None:
    """Such a task would wait for the look without floors, seconds instead of milliseconds.

    Tasks come with any numbers (late commits, hand-backs) while looks are under way, which end in
    any order, or fail.
    """
    floors, pending = Floors(), set[int]()
    under_way: list[tuple[Look, list[Queued], list[int]]] = []
    for what, number in steps:
        if what == "queue" and not any(number in claimed for _, _, claimed in under_way):
            pending.add(number)
            floors.lower(_places([number]))
        elif what == "begin":
            look, places = floors.begin(), floors.of([_LANE])
            lowest = min((place.queue_seq for place in places), default=99)
            claimed = sorted(each for each in pending if each >= lowest)[: number % 4]
            pending -= set(claimed)
            under_way.append((look, places, claimed))
        elif what in {"end", "fail"} and under_way:
            look, places, claimed = under_way.pop(number % len(under_way))
            if what == "end":
                floors.end(look, _places(claimed))
            else:
                pending |= set(claimed)
                floors.fail(look, places)
        for floor in floors.of([_LANE]):
            assert all(floor.queue_seq <= waiting for waiting in pending), (floor, pending)
        assert not pending or floors.of([_LANE])


def test_a_floor_follows_the_claims() -> None:
    """It is what spares a claim the walk over all that were claimed before it."""
    floors = Floors()
    floors.lower(_places([1]))
    for number in range(1, 100):
        assert floors.of([_LANE]) == _places([max(1, number - 1)])
        floors.end(floors.begin(), _places([number]))


def test_lanes_and_priorities_are_apart() -> None:
    """A busy lane must not hide the tasks of a quiet one."""
    floors = Floors()
    floors.lower([Queued(1, 5, 10), Queued(1, 6, 20), Queued(2, 5, 30)])
    floors.end(floors.begin(), [Queued(1, 5, 50)])
    assert floors.of([1]) == [Queued(1, 5, 50), Queued(1, 6, 20)]
    assert floors.of([2, 3]) == [Queued(2, 5, 30)]
