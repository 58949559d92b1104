"""What the tasks of a campaign are, all of it drawn from the seed. Pure."""

import random
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct

from loadtest.chaos import task as program
from loadtest.chaos.limits import LEASE_S
from schema.tasks import Stream, Submission

LABELS = ("wall=east", "wall=west")
"""Each agent has one of these."""

_STREAMS: dict[Stream, int] = {"stdout": 1, "stderr": 2}
_GROUP_TASKS = 50
_ENDLESS_S = 600.0
_LONG_S = (LEASE_S, 2 * LEASE_S)
_LONGER_S = (LEASE_S, 3 * LEASE_S)
"""Where nobody ends them while their agent is cut off, they run beside their next attempt."""


class Script(Struct, frozen=True, kw_only=True):
    """One task."""

    number: int
    kind: str
    seed: int
    seconds: float = 0.0
    out: int = 0
    err: int = 0
    """Bytes to each stream."""
    binary: bool = False
    codes: tuple[int, ...] = (0,)
    """Exit code of attempt 1, 2, …, and from the first again."""
    children: int = 0
    """Processes left in sessions of their own."""
    keeps: bool = False
    """They keep its output open."""
    deaf: bool = False
    """It does not heed SIGTERM."""
    dies: int = 0
    """Signal that it sends itself instead of an exit."""
    timeout: float | None = None
    no_output_timeout: float | None = None
    max_attempts: int = 1
    exclusive: bool = False
    cancel: str = ""
    """`pending` or `running`: when a person cancels it; never, if empty."""
    retried: bool = False
    """A person runs it again when it has ended."""
    needs: tuple[str, ...] = ()

    def content(self, attempt: int, stream: Stream) -> bytes:
        """All that an attempt writes, if nothing ends it before."""
        size = self.out if stream == "stdout" else self.err
        number = _STREAMS[stream]
        return program.content(self.seed, attempt, number, size, binary=self.binary)

    def command(self, journal: Path) -> str:
        """For the shell."""
        words = [f"seed={self.seed}", f"out={self.out}", f"err={self.err}"]
        words += [f"seconds={self.seconds:.2f}", f"codes={','.join(map(str, self.codes))}"]
        words += [f"children={self.children}", f"dies={self.dies}"]
        words += [f"{name}=1" for name in ("binary", "keeps", "deaf") if getattr(self, name)]
        interpreter = [sys.executable, "-S", "-E", "-I", program.__file__]
        return shlex.join([*interpreter, str(journal), *words])

    def group(self, campaign: str) -> str:
        """Tasks of a group are handed over one after the other."""
        return f"{campaign}-{self.number // _GROUP_TASKS}"

    def submission(self, campaign: str, journal: Path) -> Submission:
        """As `dw` hands it over."""
        return Submission(
            command=self.command(journal),
            name=f"{self.kind} {self.number}",
            group=self.group(campaign),
            key=f"{campaign}.{self.number}",
            timeout=self.timeout,
            no_output_timeout=self.no_output_timeout,
            max_attempts=self.max_attempts,
            exclusive=self.exclusive,
            needs=self.needs,
            priority=4 + self.number % 3,
        )


class _Dice(random.Random):
    def chance(self, share: float) -> bool:
        """Whether something happens that happens so often."""
        return self.random() < share

    def size(self) -> int:
        """Bytes: often none, mostly few, now and then megabytes."""
        return int(10 ** self.uniform(0, 6.4)) if self.chance(0.7) else 0


_Fields = dict[str, Any]

_KINDS: dict[str, tuple[int, Callable[[_Dice], _Fields]]] = {
    "echo": (40, lambda dice: {"out": dice.randrange(200), "err": 0}),
    "writer": (22, lambda dice: {"seconds": dice.uniform(0.1, 4)}),
    "failing": (
        8,
        lambda dice: {
            "seconds": dice.uniform(0, 0.5),
            "codes": tuple(dice.choice((0, 1, 3, 127, 255)) for _ in range(3)),
            "max_attempts": dice.choice((2, 3)),
        },
    ),
    "exclusive": (
        10,
        lambda dice: {
            "exclusive": True,
            "seconds": dice.uniform(0.3, 4) if dice.chance(0.6) else dice.uniform(*_LONGER_S),
            "children": int(dice.chance(0.2)),
        },
    ),
    "family": (
        5,
        lambda dice: {
            "seconds": dice.uniform(0.1, 1.5),
            "children": dice.choice((1, 3)),
            "keeps": dice.chance(0.5),
        },
    ),
    "too slow": (
        4,
        lambda dice: {
            "seconds": _ENDLESS_S,
            "timeout": dice.uniform(0.3, 1.2),
            "deaf": dice.chance(0.3),
            "children": int(dice.chance(0.3)),
        },
    ),
    "silent": (
        2,
        lambda dice: {
            "seconds": _ENDLESS_S,
            "no_output_timeout": dice.uniform(0.3, 1.2),
            "out": 0,
            "err": 0,
        },
    ),
    "dying": (
        2,
        lambda dice: {
            "seconds": dice.uniform(0.1, 1.5),
            "dies": int(dice.choice((signal.SIGUSR1, signal.SIGKILL))),
        },
    ),
    "cancelled": (
        5,
        lambda dice: {
            "cancel": dice.choice(("pending", "running", "running")),
            "seconds": dice.uniform(3, 8),
            "deaf": dice.chance(0.3),
            "children": int(dice.chance(0.3)),
        },
    ),
    "retried": (
        4,
        lambda dice: {
            "seconds": dice.uniform(0.1, 1.5),
            "codes": (dice.choice((0, 1)), 0),
            "retried": True,
        },
    ),
    "long": (7, lambda dice: {"seconds": dice.uniform(*_LONG_S)}),
}
"""Weight of each kind, and what sets its tasks apart."""


def scripts(seed: int) -> Iterator[Script]:
    """All tasks there can be, in the order in which they are handed over."""
    dice = _Dice(f"tasks {seed}")
    weights = [weight for weight, _ in _KINDS.values()]
    number = 0
    while True:
        (kind,) = dice.choices(list(_KINDS), weights)
        fields: _Fields = {
            "seed": dice.getrandbits(40),
            "out": dice.size(),
            "err": dice.size() // 4,
            "binary": dice.chance(0.3),
            "needs": dice.choice(((), (), (), *((label,) for label in LABELS))),
        }
        yield Script(number=number, kind=kind, **(fields | _KINDS[kind][1](dice)))
        number += 1
