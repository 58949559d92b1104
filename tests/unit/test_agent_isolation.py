"""Which isolation an agent announces, by its own setting and what works on its machine."""

import pytest

from agent.isolation import offered, stronger
from schema.tasks import ISOLATIONS, Isolation


@pytest.mark.parametrize(
    ("floor", "works", "labels"),
    [
        ("none", (), ()),
        ("none", ("bwrap",), ("isolation=bwrap",)),
        ("none", ("docker",), ("isolation=docker",)),
        ("none", ("bwrap", "docker"), ("isolation=bwrap", "isolation=docker")),
        ("bwrap", ("bwrap",), ("isolation=bwrap",)),
        ("bwrap", ("bwrap", "docker"), ("isolation=bwrap", "isolation=docker")),
        ("docker", ("docker",), ("isolation=bwrap", "isolation=docker")),
    ],
)
def test_what_a_task_may_ask_for(
    floor: Isolation, works: tuple[Isolation, ...], labels: tuple[str, ...]
) -> None:
    """A label for each thing that a task would get here, or more than that."""
    assert offered(floor, frozenset(("none", *works))) == labels


def test_a_task_gets_the_stronger_one() -> None:
    """Its own wish, or the agent's: never less than either."""
    for place, one in enumerate(ISOLATIONS):
        for other_place, other in enumerate(ISOLATIONS):
            assert stronger(one, other) == ISOLATIONS[max(place, other_place)]
