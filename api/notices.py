"""Wake-ups between the processes of one database: one coalesced NOTIFY, one LISTEN.

Each notifying commit takes a lock of the whole database, so the statements of the hot path never
notify. A process tells its peers after the commit: the first change at once, what comes in the next
milliseconds in one statement. Nobody relies on it: who waits looks again by himself now and then.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence

import asyncpg
import msgspec
from msgspec import Struct, field

from api.database import AWAY
from api.store.tasks import Queued
from api.watched import Watch, Watched

_CHANNEL = "distributed_worker"
_COLLECT_S = 0.002
_MOST = 80  # entries of each kind in one notice: its payload must stay below 8,000 bytes
_PROBE_S = 30.0  # a LISTEN whose connection died without a word is noticed after that
_LOST: tuple[type[Exception], ...] = (asyncpg.PostgresError, *AWAY)
_log = logging.getLogger(__name__)


class Notice(Struct, frozen=True, omit_defaults=True):
    """What changed; receivers look at the tables for the rest."""

    queued: tuple[Queued, ...] = ()
    """The lowest place of new pending tasks, for each lane and priority."""
    sessions: tuple[int, ...] = ()
    """Sessions with something to tell to their agents."""
    tokens: bool = False
    """Tokens were made or revoked."""
    watching: tuple[Watch, ...] = ()
    """Tasks that somebody watches, where this comes from."""
    moved: tuple[int, ...] = ()
    """Watched tasks that have more output, or another state."""
    asking: bool = False
    """Who sends this has not heard yet what is watched."""


class _Untold(Struct):
    """What the peers still have to be told."""

    queued: dict[tuple[int, int], Queued] = field(default_factory=dict)
    sessions: set[int] = field(default_factory=set)
    watching: dict[int, Watch] = field(default_factory=dict)
    moved: set[int] = field(default_factory=set)
    tokens: bool = False
    asking: bool = False

    def add(self, other: "_Untold") -> None:
        _lowest(self.queued, other.queued.values())
        self.sessions |= other.sessions
        self.watching = other.watching | self.watching
        self.moved |= other.moved
        self.tokens |= other.tokens
        self.asking |= other.asking

    def notices(self) -> Iterator[Notice]:
        """As many as it takes."""
        if self.asking or self.tokens:
            yield Notice(asking=self.asking, tokens=self.tokens)
        queued, sessions = list(self.queued.values()), list(self.sessions)
        for at in range(0, max(len(queued), len(sessions)), _MOST):
            yield Notice(tuple(queued[at : at + _MOST]), tuple(sessions[at : at + _MOST]))
        watching, moved = list(self.watching.values()), list(self.moved)
        for at in range(0, max(len(watching), len(moved)), _MOST):
            part = slice(at, at + _MOST)
            yield Notice(watching=tuple(watching[part]), moved=tuple(moved[part]))


_decode = msgspec.json.Decoder(Notice).decode
_encode = msgspec.json.Encoder().encode


class Notices:
    """Tells this process at once, and the others soon, of what changed."""

    def __init__(
        self, connect: Callable[[], Awaitable[asyncpg.Connection]], watched: Watched
    ) -> None:
        self._connect = connect
        self._untold = _Untold()
        self._changed = asyncio.Event()
        self.watched = watched
        self.on_queued: Callable[[Sequence[Queued]], None] = lambda _: None
        self.on_sessions: Callable[[Iterable[int]], None] = lambda _: None
        self.on_tokens: Callable[[], None] = lambda: None
        self.on_moved: Callable[[Iterable[int]], None] = lambda _: None
        self.on_asked: Callable[[], None] = lambda: None
        self.on_reconnect: Callable[[], None] = lambda: None

    def tasks_queued(self, queued: Iterable[Queued]) -> None:
        """Tasks are pending, committed."""
        lowest = _lowest({}, queued)
        if lowest:
            self.on_queued(list(lowest.values()))
            self._tell(_Untold(queued=lowest))

    def sessions_changed(self, sessions: Iterable[int]) -> None:
        """Sessions have something to tell to their agents, committed."""
        new = set(sessions)
        if new:
            self.on_sessions(new)
            self._tell(_Untold(sessions=new))

    def tasks_moved(self, tasks: Iterable[int]) -> None:
        """Tasks have more output or another state, committed. Only those count that are watched."""
        moved = self.watched.among(tasks)
        if moved:
            self.on_moved(moved)
            self._tell(_Untold(moved=moved))

    def watching(self, watches: Collection[Watch]) -> None:
        """Somebody watches these tasks at this process: announced now and then."""
        if watches:
            self._believe(watches)
            self._tell(_Untold(watching={each.task: each for each in watches}))

    def _believe(self, watches: Collection[Watch]) -> None:
        self.on_sessions(self.watched.hear(watches))

    def _tell(self, untold: _Untold) -> None:
        self._untold.add(untold)
        self._changed.set()

    def tokens_changed(self) -> None:
        """Tokens were made or revoked, committed; this process knows it."""
        self._tell(_Untold(tokens=True))

    async def run(self) -> None:
        """Stay connected until cancelled."""
        while True:
            try:
                connection = await self._connect()
            except _LOST as error:
                _log.warning("cannot listen to the database: %s", error)
            else:
                try:
                    await self._serve(connection)
                except _LOST as error:
                    _log.warning("lost the listening connection: %s", error)
                finally:
                    connection.terminate()
            await asyncio.sleep(random.uniform(0.2, 1))  # noqa: S311 - jitter

    async def _serve(self, connection: asyncpg.Connection) -> None:
        # A notice that is lost costs a second; it need not reach the disk.
        await connection.execute("SET synchronous_commit = off")
        await connection.add_listener(_CHANNEL, self._receive)
        self.on_reconnect()
        self._tell(_Untold(asking=True))
        while True:
            try:
                # In Python 3.11 wait_for() loses a cancellation that comes together with a change.
                async with asyncio.timeout(_PROBE_S):
                    await self._changed.wait()
            except TimeoutError:
                await connection.execute("SELECT 1", timeout=10)
                continue
            self._changed.clear()
            untold, self._untold = self._untold, _Untold()
            try:
                await connection.execute(
                    "SELECT pg_notify($1, payload) FROM unnest($2::text[]) AS payload",
                    _CHANNEL, [_encode(each).decode() for each in untold.notices()], timeout=10,
                )  # fmt: skip
            except BaseException:
                self._tell(untold)
                raise
            await asyncio.sleep(_COLLECT_S)

    def _receive(self, connection: object, pid: int, _channel: str, payload: object) -> None:
        if isinstance(connection, asyncpg.Connection) and pid == connection.get_server_pid():
            return  # our own: told already
        try:
            notice = _decode(str(payload))
        except msgspec.MsgspecError:
            _log.warning("not a notice: %.200s", payload)
            return
        if notice.queued:
            self.on_queued(notice.queued)
        if notice.sessions:
            self.on_sessions(notice.sessions)
        if notice.tokens:
            self.on_tokens()
        if notice.watching:
            self._believe(notice.watching)
        if notice.moved:
            self.on_moved(notice.moved)
        if notice.asking:
            self.on_asked()


def _lowest(
    known: dict[tuple[int, int], Queued], queued: Iterable[Queued]
) -> dict[tuple[int, int], Queued]:
    """Add to `known`, keeping the lowest place of each lane and priority."""
    for each in queued:
        pair = (each.lane, each.priority)
        if pair not in known or each.queue_seq < known[pair].queue_seq:
            known[pair] = each
    return known
