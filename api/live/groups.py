"""All groups that are watched at one process, and what their viewers share."""

import asyncio
import itertools
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from api.database import AWAY
from api.live import bundles
from api.live.bundles import Bundle
from api.live.group_positions import GroupPosition
from api.live.group_tails import MAX_TASKS, GroupTail
from api.live.service import Live
from api.live.sharing import Shared
from api.live.steps import Streams
from api.store import live as store

_LOOK_S = 1.0
_SHARE = 20
"""One part in so many of the time, at most, is spent looking at one group: ten thousand members
take 30 ms each time."""

_OTHER_HEADERS = 6144
"""Bytes: 2 KiB for a token or a cookie and the like, and for what one more bundle adds (64 tasks of
up to 29 characters, and longer offsets of some hundred others)."""

_KEPT_BYTES = 8 * 1024 * 1024
_AT_ONCE = 8
_log = logging.getLogger(__name__)


class Groups:
    """All groups that are watched at one process."""

    def __init__(self, live: Live, max_header_bytes: int) -> None:
        """`max_header_bytes`: of a request, in which a viewer says where he was."""
        self.live = live
        self.most_chars = max_header_bytes - _OTHER_HEADERS
        """A position that is longer is the last one: one bundle more would have no room."""
        self._groups: dict[str, GroupTail] = {}
        self._work = asyncio.Event()
        self._states = itertools.count()
        self._bundles: Shared[Bundle] = Shared(_weight, _KEPT_BYTES, _AT_ONCE)

    @contextmanager
    def watching(self, name: str) -> Iterator[GroupTail]:
        """Watch a group; it has been looked at when it says so."""
        group = self._groups.get(name)
        if group is None:
            group = self._groups[name] = GroupTail(name, self.live, self._work, self._states)
            group.look_soon()
        group.holders += 1
        try:
            yield group
        finally:
            group.holders -= 1
            group.left_at = asyncio.get_running_loop().time()

    async def next_bundle(
        self, group: GroupTail, position: GroupPosition, streams: Streams
    ) -> Bundle | None:
        """What comes behind a position; shared by all who are there."""
        return await self._bundles.once(
            (group.name, group.state, str(position), streams),
            lambda: bundles.next_bundle(group, position, streams),
        )

    async def run(self) -> None:
        """Look until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self._work.clear()
            for name, group in list(self._groups.items()):
                if not group.holders and group.left_at < loop.time() - _LOOK_S:
                    group.close()
                    del self._groups[name]
                elif group.due or group.next_look_at <= loop.time():
                    await self._look(group)
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._work.wait()

    async def _look(self, group: GroupTail) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        group.due = False
        group.next_look_at = began + _LOOK_S / 2
        try:
            async with self.live.database.reading() as connection:
                members = await store.group_members(connection, group.name, 0, MAX_TASKS + 1)
        except AWAY as error:
            _log.warning("cannot read a watched group: %r", error)
        else:
            group.update(members, began)
            group.next_look_at += _SHARE * (loop.time() - began)


def _weight(bundle: Bundle) -> int:
    """The end is made anew, with a look: somebody may have handed over more."""
    if bundle.position.all_told:
        return 0
    return len(bundle.frame) + bundle.position.weight
