"""One task of a campaign, and what people did about it."""

from msgspec import Struct, field

from loadtest.chaos.scripts import Script
from schema.tasks import FINAL, Task


class Case(Struct, eq=False):
    """One task, and what was said about it."""

    script: Script
    id: int = 0
    """0: nobody knows yet."""
    task: Task | None = None
    """As it was seen last."""
    cancel_asked: bool = False
    cancelled_at: int | None = None
    """Attempt at which a cancellation was accepted, where the task was not over then."""
    retries: set[int] = field(default_factory=set)
    """Attempts after which a person asked for another one."""
    left_alone: bool = False
    """People want nothing more of it."""
    said: list[tuple[float, str]] = field(default_factory=list)
    """What was done and answered, for people, by the boot clock."""

    @property
    def open(self) -> bool:
        """It is not over, or a person is not done with it."""
        return self.task is None or self.task.status not in FINAL or not self.left_alone
