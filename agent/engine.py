"""What docker or podman are asked about containers, apart from running one.

A container is not the command line's child: killing that leaves it running. So it has a name that
tells whose it is, and is removed by that name when its task is ended by force, by the guardian when
the worker is dead, and by the next agent of the state folder when both are.
"""

import subprocess
from collections.abc import Iterable

_ANSWER_S = 30
_LABEL = "dw.agent"


class Engine:
    """Knows the containers of one agent. The guardian has one, so it imports little."""

    def __init__(self, program: str, agent: str) -> None:
        """`agent` is the id of its state folder."""
        self.program = program
        self.label = f"{_LABEL}={agent}"
        self._agent = agent

    def name(self, task: int, attempt: int) -> str:
        """The container of an attempt."""
        return f"dw-{self._agent}-{task}-{attempt}"

    def remove(self, names: Iterable[str]) -> None:
        """Kill and remove containers; it is no error where there are none."""
        names = [*names]
        # To podman `rm --force` means SIGTERM and ten seconds first.
        self._ask("kill", "--signal", "KILL", *names)
        self._ask("rm", "--force", *names)

    def remove_all(self) -> int:
        """Kill and remove all of this agent's, and say how many."""
        found = self._ask("ps", "--all", "--quiet", "--no-trunc", "--filter", f"label={self.label}")
        if found:
            self.remove(found)
        return len(found)

    def works(self) -> str | None:
        """Ask whether it is there; None if so, else why not."""
        try:
            subprocess.run(  # noqa: S603 - our own arguments
                [self.program, "ps", "--quiet"], check=True, capture_output=True, timeout=_ANSWER_S
            )  # fmt: skip
        except subprocess.CalledProcessError as error:
            return error.stderr.decode(errors="replace").strip() or str(error)
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        return None

    def _ask(self, *words: str) -> list[str]:
        try:
            said = subprocess.run(  # noqa: S603 - our own arguments
                [self.program, *words], stdin=subprocess.DEVNULL, capture_output=True,
                timeout=_ANSWER_S, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            return []  # it is gone, and what it ran with it, or the next agent asks again
        return said.stdout.decode(errors="replace").split()
