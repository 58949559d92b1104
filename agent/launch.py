"""What to start for an attempt."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from agent.process import Exit


class RefusedError(Exception):
    """This agent does not run such a task: the text says why, after the agent's name."""


class Launch(NamedTuple):
    """A command line, and how what becomes of it is to be taken."""

    argv: Sequence[str | bytes]
    cwd: Path | str | None
    env: Mapping[bytes, bytes]
    fds: tuple[int, ...] = ()
    """Handed on under their numbers; ours are to be closed when it has started, or has not."""
    relayed: bool = False
    """Its exit code 128 + n tells that signal n ended the command."""
    shielded: bool = False
    """All of it dies with its first process, which must not be asked to end before the rest."""
    verdict: Callable[[Exit], Awaitable[Exit]] | None = None
    """What its end means; it sees to what may be left, too."""
