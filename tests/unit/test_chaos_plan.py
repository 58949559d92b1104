"""What a campaign will do: the same from the same seed, and of every kind something."""

from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from loadtest.chaos import plan, scripts
from loadtest.chaos.faults import WAYS
from loadtest.chaos.plan import KINDS

_JOURNAL = Path("/tmp/journal")


def test_a_seed_determines_all_faults() -> None:
    """A finding can be looked at again only if it can be made again."""
    assert plan.faults(7, 600, 8) == plan.faults(7, 600, 8)
    assert plan.faults(7, 600, 8) != plan.faults(8, 600, 8)


def test_every_kind_comes_before_any_comes_twice() -> None:
    """So that three minutes have all of them."""
    for seed in range(50):
        first = plan.faults(seed, 180, 8)[: len(KINDS)]
        assert {fault.kind for fault in first} == set(KINDS)


def test_half_an_hour_has_enough_of_all() -> None:
    """Over 200, each kind by its weight, and none after the end."""
    faults = plan.faults(1, 1800, 8)
    counts = Counter(fault.kind for fault in faults)
    assert counts.total() > 300
    assert all(counts[name] >= 5 * kind.weight for name, kind in KINDS.items())
    assert all(fault.at_s > 0 and fault.at_s + fault.lasts_s <= 1800 for fault in faults)
    assert [fault.at_s for fault in faults] == sorted(fault.at_s for fault in faults)


def test_a_short_campaign_has_its_faults_close_together() -> None:
    """Or there would be hardly any."""
    assert len(plan.faults(1, 30, 8)) > 12


def test_a_fault_lasts_as_long_as_its_kind_says() -> None:
    """What must be longer than the lease is."""
    for fault in plan.faults(3, 1800, 8):
        least, most = KINDS[fault.kind].lasts
        assert least * 8 <= fault.lasts_s <= most * 8


def test_each_kind_has_a_way_to_be_put_in() -> None:
    """And none is left that nothing plans."""
    assert KINDS.keys() == WAYS.keys()


def test_a_seed_determines_all_tasks() -> None:
    """Each in turn, whenever it is handed over."""
    some = list(islice(scripts.scripts(7), 500))
    assert some == list(islice(scripts.scripts(7), 500))
    assert some != list(islice(scripts.scripts(8), 500))
    assert [script.number for script in some] == list(range(500))


def test_tasks_are_of_all_sorts() -> None:
    """From no byte to megabytes, exclusive, with children, retried, cancelled, too slow."""
    some = list(islice(scripts.scripts(1), 2000))
    assert len({script.kind for script in some}) == 11
    assert min(script.out for script in some) == 0
    assert max(script.out for script in some) > 1_000_000
    for name in ("exclusive", "children", "keeps", "deaf", "binary", "timeout", "retried", "needs"):
        assert any(getattr(script, name) for script in some), name
        assert not all(getattr(script, name) for script in some), name
    assert {script.cancel for script in some} == {"", "pending", "running"}


@pytest.mark.parametrize("binary", [False, True])
def test_no_two_streams_are_the_same(*, binary: bool) -> None:
    """A log of another attempt, stream or task must not pass for this one."""
    one = scripts.Script(number=0, kind="writer", seed=5, out=1000, err=1000, binary=binary)
    other = scripts.Script(number=1, kind="writer", seed=6, out=1000, err=1000, binary=binary)
    seen = {
        script.content(attempt, stream)
        for script in (one, other)
        for attempt in (1, 2)
        for stream in ("stdout", "stderr")
    }
    assert len(seen) == 8
    assert {len(data) for data in seen} == {1000}
    lines = one.content(1, "stdout").split(b"\n")
    assert binary or len(set(lines)) == len(lines) > 10


def test_a_submission_says_what_the_script_says() -> None:
    """The key is the same each time; the group has its neighbours."""
    script = next(each for each in scripts.scripts(1) if each.exclusive and each.children)
    task = script.submission("run", _JOURNAL)
    assert (task.key, task.exclusive) == (f"run.{script.number}", True)
    assert task.group == f"run-{script.number // 50}"
    assert str(_JOURNAL) in task.command
    assert f"children={script.children}" in task.command
