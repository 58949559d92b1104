"""Lines of waiters: who looks next, and who is dealt what."""

from collections import Counter

from api.waiters import Line, Waiter, deal


def _waiter(slots: int = 1, ahead: int = 0) -> Waiter:
    return Waiter(None, (), slots=slots, ahead=ahead, patient=True)


async def test_who_went_away_looks_no_more() -> None:
    """It leaves a moment later: what it was given would lie with its session till a beat."""
    line, gone, parked, new = Line(), _waiter(), _waiter(), _waiter()
    for each in (gone, parked):
        line.park_last(each)
    line.add(new)
    line.woken = True
    gone.answer([])
    assert line.take(10) == [parked, new]


async def test_only_a_line_where_others_found_nothing_is_quiet() -> None:
    """A newcomer that does not look relies on their look, and on the next wake-up."""
    line = Line()
    assert not line.quiet
    line.park_last(_waiter())
    assert line.quiet
    line.woken = True
    assert not line.quiet
    line.woken = False
    line.add(_waiter())
    assert not line.quiet


async def test_free_slots_are_dealt_in_turn_before_what_is_claimed_ahead() -> None:
    """Few tasks reach many agents, and none that somebody could start waits for another."""
    one, two = _waiter(slots=1, ahead=5), _waiter(slots=3)
    assert deal([one, two], 10) == [one, two, two, two, *[one] * 5]
    assert Counter(deal([one, two], 2)) == {one: 1, two: 1}
    assert deal([_waiter(slots=0, ahead=0)], 3) == []
