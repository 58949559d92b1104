"""Which faults excuse an agent: how long it was cut off, and by what."""

from loadtest.chaos.happened import EVERYBODY, History

INF = float("inf")


def _history(*spans: tuple[str, str, float, float]) -> History:
    history = History()
    for kind, whom, began_s, ended_s in spans:
        history.begin(kind, whom, whom, began_s).ended_s = ended_s
    return history


def test_time_that_is_disturbed_twice_counts_once() -> None:
    """Of two faults at a time, and only in the time that is looked at."""
    history = _history(
        ("stalled", "a", 10, 14), ("refused", "a", 12, 16), ("API killed", EVERYBODY, 20, INF)
    )
    assert history.disturbed_s("a", 0, 30) == 16
    assert history.disturbed_s("a", 11, 15) == 4
    assert history.disturbed_s("a", 17, 19) == 0


def test_what_strikes_another_agent_disturbs_this_one_not() -> None:
    """Nor does what cuts nobody off."""
    history = _history(("stalled", "b", 0, 9), ("API killed", EVERYBODY, 3, 4))
    history.begin("clock jumped", "a", "a", 5, cuts_off=False).ended_s = 7
    assert history.disturbed_s("a", 0, 10) == 1


def test_who_was_struck_by_what() -> None:
    """At any moment of the time that is looked at."""
    history = _history(("agent's guardian killed", "a", 10, 12))
    assert history.struck(["agent's guardian killed"], "a", 11, 20)
    assert history.struck(["agent's guardian killed"], "a", 0, 10)
    assert not history.struck(["agent's guardian killed"], "a", 12.1, 20)
    assert not history.struck(["agent's guardian killed"], "b", 0, 20)
    assert not history.struck(["agent stopped"], "a", 0, 20)


def test_from_when_on_all_was_calm() -> None:
    """The end of the last fault that concerned the agent, else the beginning."""
    history = _history(
        ("stalled", "a", 0, 5), ("stalled", "b", 0, 8), ("API killed", EVERYBODY, 4, 6)
    )
    assert history.calm_s("a", 3, 10) == 6
    assert history.calm_s("a", 7, 10) == 7


def test_only_planned_faults_are_counted() -> None:
    """A busy machine is an excuse, not a fault that was put in."""
    history = _history(("stalled", "a", 0, 5), ("stalled", "b", 0, 8))
    history.begin("machine busy", "all", EVERYBODY, 1, planned=False)
    assert history.counts() == {"stalled": 2}
