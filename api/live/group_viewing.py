"""One viewer of a group: the events of all its tasks, at the viewer's own pace."""

import asyncio
from collections.abc import AsyncGenerator, Iterator

from api.database import AWAY
from api.live import events
from api.live.group_positions import GroupPosition
from api.live.group_tails import GroupTail
from api.live.groups import Groups
from api.live.steps import Streams
from api.live.viewing import AFTER_ERROR_S, KEEP_ALIVE_S, first_position, longest_s
from api.positions import Position
from schema.logs import AttemptBegun, GroupNow
from schema.tasks import FINAL

_PACE_S = 0.1
"""Between two bundles of a viewer who has caught up: fifty tasks bring something all the time."""

_COUNTS_S = 1.0


async def first_group_position(
    group: GroupTail, lines: int | None, streams: Streams
) -> tuple[GroupPosition, bytes]:
    """Where somebody begins who brings no position, and what he is told before all output.

    Of each task its newest attempt is shown; with `lines` only of those that have not ended.
    """
    told: dict[int, Position] = {}
    begun: list[AttemptBegun] = []
    for task, member in list(group.members.items()):
        if lines is None:
            if member.attempt > 1:
                told[task] = Position(member.attempt - 1, told="log")
        elif member.status in FINAL:
            told[task] = Position(member.attempt, told="end")
        elif task in group.tails:
            told[task], run = await first_position(group.live, group.tails[task], lines, streams)
            begun += [run] if run else []
        elif member.attempt:  # it waits to run again
            told[task] = Position(member.attempt, told="log")
    position = GroupPosition.of(group.ids, told)
    # With the last one he has heard of all: before that, he begins anew.
    first = [events.event("attempt", each) for each in begun[:-1]]
    first += [events.event("attempt", each, position) for each in begun[-1:]]
    return position, b"".join(first)


class _Head:
    """What a viewer is told besides the tasks' logs."""

    def __init__(self, group: GroupTail) -> None:
        self._group = group
        self._told: GroupNow | None = None
        self._told_at = 0.0
        self._news = -1

    @property
    def behind(self) -> bool:
        """Whether there are counts to tell, though not yet."""
        return self._group.now != self._told

    def events(self) -> Iterator[bytes]:
        """What is new of the counts and of the tasks' states."""
        now_s = asyncio.get_running_loop().time()
        if self.behind and now_s - self._told_at >= _COUNTS_S:
            self._told, self._told_at = self._group.now, now_s
            yield events.event("group", self._told)
        self._news, statuses = self._group.statuses(self._news)
        yield from statuses


async def view_group(
    groups: Groups, group: GroupTail, position: GroupPosition, first: bytes, streams: Streams
) -> AsyncGenerator[bytes, None]:
    """Events of a group that is watched, from a position on, until all tasks have ended.

    Or until so many run that the position grows too long: who brings that one is refused.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + longest_s()
    yield events.HELLO
    head = _Head(group)
    while loop.time() < until and not group.too_many:
        rung = group.bell.rung
        if news := b"".join(head.events()) + first:
            first = b""
            yield news
        try:
            bundle = await groups.next_bundle(group, position, streams)
        except AWAY:  # the loop that looks at all groups says so, once for all viewers
            await asyncio.sleep(AFTER_ERROR_S)
            yield events.KEEP_ALIVE
            continue
        if bundle is not None:
            position = bundle.position
            # What changed while it was made comes first: behind an end nothing of a task follows.
            yield b"".join(head.events()) + bundle.frame
            if position.all_told or len(str(position)) > groups.most_chars:
                return
            if not bundle.full:
                await asyncio.sleep(_PACE_S)
        elif head.behind:
            await group.bell.wait(rung, _COUNTS_S)
        elif not await group.bell.wait(rung, KEEP_ALIVE_S):
            yield events.KEEP_ALIVE
