"""The journal that tasks wrote, as one run for each attempt. Times are of the boot clock."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct, field

from loadtest.record import AttemptKey


class Run(Struct):
    """What the processes of one attempt wrote down."""

    agent: str
    start_s: float
    starts: list[int] = field(default_factory=list)
    """Process of each start: more than one is a task that was run twice."""
    last_s: float = 0.0
    """Last sign of the command itself; its end, where it ended by itself."""
    left_s: float = 0.0
    """Last sign of any of its processes."""
    written: tuple[int, int] = (0, 0)
    """Bytes that the system had taken of stdout and stderr by the last beat."""
    code: int | None = None
    """Exit code, where it ended by itself."""

    @property
    def over_s(self) -> float:
        """When nothing of it ran any more. A process that was killed stops beating."""
        return max(self.last_s, self.left_s)


def read(path: Path) -> dict[AttemptKey, Run]:
    """All attempts; the last line may be cut."""
    if not path.exists():
        return {}
    with path.open() as lines:
        return collect(lines)


def collect(lines: Iterable[str]) -> dict[AttemptKey, Run]:
    """Lines as `task.py` writes them, in any order of the attempts."""
    runs: dict[AttemptKey, Run] = {}
    for line in lines:
        words = line.split()
        boot_s = int(words[0]) / 1e9
        key = (int(words[1]), int(words[2]))
        run = runs.get(key)
        if run is None:
            run = runs[key] = Run(agent=words[3], start_s=boot_s)
        match words[5:]:
            case ["start"]:
                run.starts.append(int(words[4]))
                run.last_s = boot_s
            case ["beat", out, err]:
                if run.code is None:
                    run.last_s = max(run.last_s, boot_s)
                run.written = (int(out), int(err))
            case ["child"]:
                run.left_s = max(run.left_s, boot_s)
            case ["end", code]:
                run.code = int(code)
                run.last_s = boot_s
    return runs


def by_task(runs: dict[AttemptKey, Run]) -> dict[int, dict[int, Run]]:
    """The same, by task and attempt."""
    found: dict[int, dict[int, Run]] = defaultdict(dict)
    for (task, attempt), run in runs.items():
        found[task][attempt] = run
    return found
