"""What comes next for a viewer of a group: events of many tasks together, as a task's are steps."""

from contextlib import ExitStack

from msgspec import Struct

from api.live import events
from api.live.group_positions import GroupPosition, Walk
from api.live.group_tails import GroupTail
from api.live.steps import STEP_BYTES, Step, Streams

_AHEAD = 16  # tasks that are looked at together
_MOST_NEW = 64
"""Tasks that a bundle begins or ends: a position that all of a sudden were longer than a request's
headers may be could not be sent back."""


class Bundle(Struct, frozen=True):
    """Some events of a group."""

    frame: bytes
    position: GroupPosition
    """Behind them."""
    full: bool
    """There is more."""


async def next_bundle(group: GroupTail, position: GroupPosition, streams: Streams) -> Bundle | None:
    """The events behind a position; None while there is nothing to tell."""
    position = group.reopen(position, group.run_again)
    waiting = group.waiting(position, streams)
    if not waiting and group.all_told(position):
        await group.known(freshly=True)  # somebody may just have handed over more
        if group.all_told(position):
            end = position.finished()
            return Bundle(events.event("done", group.now, end), end, full=False)
    made = _Made(position)
    while waiting and not made.full:
        some, waiting = waiting[:_AHEAD], waiting[_AHEAD:]
        with ExitStack() as stack:
            tails = [stack.enter_context(group.live.watching(task)) for task in some]
            for tail in tails:
                if made.full or not await group.live.known(tail):
                    break
                around = group.around(tail.task)
                at = made.walk.at(tail.task)
                while not made.full and (step := await group.live.next_step(tail, at, streams)):
                    made.add(tail.task, step, *around)
                    at = step.position
    return made.bundle()


class _Made:
    """Events as they come together."""

    def __init__(self, position: GroupPosition) -> None:
        self.walk = Walk(position)
        self._frames: list[bytes] = []
        self._outputs: list[bytes] = []
        self._size = 0
        self._new = 0

    @property
    def full(self) -> bool:
        return self._size >= STEP_BYTES or self._new >= _MOST_NEW

    def add(self, task: int, step: Step, before: int | None, after: int | None) -> None:
        """Output of several tasks goes into one event; all else ends it, and has its own."""
        self._size += len(step.json)
        self._new += step.position.told == "end" or not self.walk.knows(task)
        if step.name == "output":
            self._outputs.append(step.json)
        else:
            self._end_outputs()
        self.walk.move(task, step.position, before, after)
        if step.name != "output":
            self._frames.append(events.written(step.name, step.json, self.walk.position()))

    def _end_outputs(self) -> None:
        if self._outputs:
            data = b"[%b]" % b",".join(self._outputs)
            self._frames.append(events.written("output", data, self.walk.position()))
            self._outputs.clear()

    def bundle(self) -> Bundle | None:
        self._end_outputs()
        if not self._frames:
            return None
        return Bundle(b"".join(self._frames), self.walk.position(), self.full)
