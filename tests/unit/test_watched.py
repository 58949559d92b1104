"""What is watched, at any process, is believed for some time."""

from api.watched import BELIEVE_S, FLUSH_MS, Watch, Watched


class _Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_an_announcement_is_believed_until_it_is_too_old() -> None:
    """Nobody says that he watches no more: a process that dies cannot."""
    clock = _Clock()
    watched = Watched(clock)
    assert not watched
    assert watched.hear([Watch(1, 7), Watch(2, 0)]) == {7}
    assert watched.among([1, 2, 3]) == {1, 2}
    assert (watched.flush_ms(7), watched.flush_ms(0), watched.flush_ms(8)) == (FLUSH_MS, None, None)
    clock.now_s += BELIEVE_S - 1
    assert watched.forget() == set()
    assert watched.hear([Watch(1, 7)]) == set(), "it is known already"
    clock.now_s += 2
    assert watched.forget() == set()
    assert watched.among([1, 2]) == {1}
    clock.now_s += BELIEVE_S
    assert watched.forget() == {7}
    assert watched.flush_ms(7) is None
    assert not watched


def test_an_agent_flushes_early_for_any_of_its_tasks() -> None:
    """And no longer for the one that has moved to another agent."""
    clock = _Clock()
    watched = Watched(clock)
    watched.hear([Watch(1, 7), Watch(2, 7)])
    clock.now_s += BELIEVE_S - 1
    assert watched.hear([Watch(1, 8), Watch(2, 7)]) == {8}
    clock.now_s += 2
    assert watched.forget() == set()
    assert (watched.flush_ms(7), watched.flush_ms(8)) == (FLUSH_MS, FLUSH_MS)
