"""Which fault comes when, and to whom: drawn from the seed before anything starts. Pure."""

import random
from collections.abc import Iterator
from typing import Literal

from msgspec import Struct

Target = Literal["server", "agent", "database", "link"]

_FIRST_S = 3.0  # tasks run by then
_GAP_S = 4.5
_LEAST_FAULTS = 20
"""A short campaign has its faults closer together."""


class Kind(Struct, frozen=True):
    """One sort of fault."""

    weight: int
    target: Target
    lasts: tuple[float, float] = (0.0, 0.0)
    """From and to, in leases."""
    cuts_off: bool = True
    """It may keep agents from the API, or the API from the database."""


KINDS: dict[str, Kind] = {
    "API worker killed": Kind(3, "server"),
    "API killed": Kind(2, "server", (0.05, 0.5)),
    "API restarted": Kind(1, "server", (0.05, 0.2)),
    "PostgreSQL killed": Kind(1, "database", (0.05, 0.5)),
    "PostgreSQL stopped at once": Kind(1, "database", (0.05, 0.5)),
    "agent's guardian killed": Kind(2, "agent", (0.05, 0.3)),
    "agent's worker killed": Kind(2, "agent", (0.05, 0.3)),
    "agent killed": Kind(2, "agent", (0.05, 0.3)),
    "agent killed for long": Kind(1, "agent", (1.3, 1.8)),
    "agent stopped": Kind(1, "agent", (1.2, 2.0)),
    "agent's worker stopped": Kind(2, "agent", (1.2, 2.0)),
    "agent drained": Kind(2, "agent", (0.05, 0.3), cuts_off=False),
    "agent drained from afar": Kind(1, "agent", (0.05, 0.3), cuts_off=False),
    "disk full": Kind(1, "agent", (0.3, 1.0), cuts_off=False),
    "clock jumped": Kind(2, "agent", cuts_off=False),
    "request cut": Kind(4, "link"),
    "reply cut": Kind(4, "link"),
    "all connections cut": Kind(2, "link"),
    "stalled": Kind(3, "link", (0.1, 0.7)),
    "slow": Kind(2, "link", (0.5, 1.5)),
    "refused": Kind(2, "link", (0.1, 0.7)),
    "partition, bytes late": Kind(2, "link", (1.2, 1.8)),
    "partition, bytes lost": Kind(2, "link", (1.2, 1.8)),
}


class Fault(Struct, frozen=True):
    """One fault that is to be put in."""

    at_s: float
    """Seconds after the start."""
    kind: str
    which: int
    """Number of the target among those of its sort; it may be larger than their number."""
    lasts_s: float
    size: int
    """Bytes that pass before a cut, or pass in a second where it is slow; a jump in seconds."""


def faults(seed: int, duration_s: float, lease_s: float) -> list[Fault]:
    """Every kind comes before any comes twice, then by weight; all are over by the end."""
    dice = random.Random(f"faults {seed}")
    gap_s = min(_GAP_S, duration_s / (_LEAST_FAULTS + 1))
    found = []
    at_s = _FIRST_S
    for kind in _deck(dice):
        least, most = KINDS[kind].lasts
        fault = Fault(
            at_s=at_s,
            kind=kind,
            which=dice.randrange(1_000_000),
            lasts_s=dice.uniform(least, most) * lease_s,
            size=int(10 ** dice.uniform(0, 5)),
        )
        if at_s >= duration_s:
            break
        if at_s + fault.lasts_s <= duration_s:
            found.append(fault)
            at_s += dice.uniform(0.4, 1.6) * gap_s
    return found


def _deck(dice: random.Random) -> Iterator[str]:
    cards = list(KINDS)
    dice.shuffle(cards)
    yield from cards
    while True:
        cards = [name for name, kind in KINDS.items() for _ in range(kind.weight)]
        dice.shuffle(cards)
        yield from cards
