"""Which commands an agent runs at all: `ALLOW`. No I/O.

A pattern is compared with the whole command. Its wildcards never stand for what makes a shell do
something else (an operator, a substitution, a new line): `pytest *` allows `pytest -k "a or b"`
and not `pytest x; reboot`. Where a pattern has such a character itself, that one is allowed, in
that place. Variables can do the same (`BASH_ENV`, `PATH`, `LD_PRELOAD`), so tasks that bring others
than `ALLOW_ENV` names are refused, too.
"""

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

_NOT_BY_WILDCARD = r";&|<>()$`\n\r"
_ANY = f"[^{_NOT_BY_WILDCARD}]"
_SHOWN_CHARS = 300


def pattern(glob: str) -> re.Pattern[str]:
    """Compile a pattern: `*` any characters, `?` one, `[abc]` and `[!abc]` one of a set.

    Each `*` but the last is settled where what follows it is found first, which changes nothing in
    what matches: else a long command could hold up the agent for minutes.
    """
    first, *others = (_literal(piece) for piece in re.split(r"\*+", glob))
    if not others:
        return re.compile(first, re.DOTALL)
    middle = "".join(f"(?>{_ANY}*?{piece})" for piece in others[:-1])
    return re.compile(f"{first}{middle}{_ANY}*{others[-1]}", re.DOTALL)


def _literal(piece: str) -> str:
    """What has no `*` in it."""
    made = []
    place = 0
    while place < len(piece):
        char = piece[place]
        # A bracket may hold one as its first member, as in a shell.
        end = piece.find("]", place + (3 if piece[place : place + 2] == "[!" else 2))
        if char == "?":
            made.append(_ANY)
        elif char == "[" and end > 0:
            members = piece[place + 1 : end]
            negated = members.startswith("!")
            inner = re.sub(r"([\\\[\]^&~|])", r"\\\1", members[negated:])
            made.append(f"(?![{_NOT_BY_WILDCARD}])[{'^' if negated else ''}{inner}]")
            place = end
        else:
            made.append(re.escape(char))
        place += 1
    return "".join(made)


class Allowed:
    """What an agent was told to allow; nothing said is everything."""

    def __init__(self, commands: Sequence[str], variables: Sequence[str]) -> None:
        """Patterns of commands, and of the names of variables; re.error where one is none."""
        self._said = ",".join(commands)
        self._commands = [pattern(glob) for glob in commands]
        self._variables = variables

    def refusal(self, command: str, env: Iterable[str]) -> str | None:
        """Say why a task is refused; None if it is not."""
        if not self._commands:
            return None
        if not any(each.fullmatch(command) for each in self._commands):
            return (
                f"refuses this command: ALLOW={self._said[:_SHOWN_CHARS]!r} does not match it as a "
                "whole; wildcards do not match ; & | < > ( ) $ ` or line ends"
            )
        for name in env:
            if not any(fnmatchcase(name, each) for each in self._variables):
                return f"refuses the variable {name[:_SHOWN_CHARS]!r}: ALLOW_ENV does not name it"
        return None
