"""Live sessions: who they are, their renewal in one write every few seconds, their beats."""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable, Sequence
from http import HTTPStatus

import msgspec
from msgspec import UNSET

from api.batching import Bounds, Coalescer
from api.database import Database
from api.problems import ProblemError
from api.session import Session, SessionGoneError
from api.store import claims as claim_store
from api.store import sessions as store
from api.store.claims import Claimed, Holding
from api.store.sessions import SessionRow
from api.store.tasks import FOR_SECRETS
from api.watched import Watched
from schema.claims import ClaimedTask
from schema.sessions import Beat, BeatReply, Held, SessionOpen, SessionOpened

Prepare = Callable[[int, Sequence[Claimed]], Awaitable[tuple[ClaimedTask, ...]]]

_RENEW_S = 3.0
_LOOKS = Bounds(items=1000)
_WAITING = Bounds(items=100_000)
_log = logging.getLogger(__name__)


class Sessions:
    """Opens, finds, renews and ends sessions; answers beats."""

    def __init__(
        self,
        database: Database,
        lease_s: float,
        prepare: Prepare,
        watched: Watched,
        *,
        max_log_bytes: int,
    ) -> None:
        """`prepare` makes of tasks what goes to the agent of a session."""
        self._database = database
        self._watched = watched
        self._lease_s = lease_s
        self._prepare = prepare
        self._max_log_bytes = max_log_bytes
        self._by_id: dict[str, Session] = {}
        self._by_number: dict[int, str] = {}
        self._stopping = False
        # A server that starts again is asked by a whole fleet at once.
        self._rows: Coalescer[str, SessionRow | None] = Coalescer(
            self._find_many, batch=_LOOKS, queue=_WAITING
        )
        self._held: Coalescer[int, Holding] = Coalescer(
            self._held_by_many, batch=_LOOKS, queue=_WAITING
        )

    @property
    def waiting(self) -> int:
        """Looks that wait for a connection."""
        return self._rows.depth + self._held.depth

    async def open(self, request: SessionOpen, token: str | None) -> SessionOpened:
        """Start a session; end the one that it replaces, whose tasks the next tick queues again.

        One that another token opened is not replaced: its lease will end it.
        """
        if request.keeps_secrets:
            request = msgspec.structs.replace(request, labels=(*request.labels, FOR_SECRETS))
        secret = secrets.token_urlsafe(16)
        sent_at = asyncio.get_running_loop().time()
        async with self._database.acquire() as connection, connection.transaction():
            if request.replaces is not None:
                (old,) = await store.find_many(connection, [request.replaces])
                if old is not None and old.token in {None, token}:
                    await store.end_session(connection, old.id, "replaced")
                    self._forget(request.replaces)
            number = await store.open_session(connection, secret, request, token)
        session = Session(number, request.labels, token)
        session.renewed_at = sent_at
        self._remember(secret, session)
        return SessionOpened(secret, self._lease_s, self._max_log_bytes)

    async def find(self, secret: str, token: str | None) -> Session:
        """The live session, and note that it was heard of; SessionGoneError.

        403 where another token opened it. One that was opened when no token was asked for goes on
        with any.
        """
        session = self._by_id.get(secret)
        now = asyncio.get_running_loop().time()
        if session is None or session.renewed_at + self._lease_s < now:
            # Not known here, or it may be dead by now: only the database can tell.
            row = await self._rows.submit(secret)
            if row is None or row.ended:
                self._forget(secret)
                raise SessionGoneError
            session = self._by_id.get(secret) or Session(row.id, row.labels, row.token)
            session.renewed_at = now - row.age_s
            self._remember(secret, session)
        if session.token != token and session.token is not None:
            raise ProblemError(
                HTTPStatus.FORBIDDEN, "another token opened this session: open one with yours"
            )
        session.touched = True
        return session

    async def beat(self, request: Beat, token: str | None) -> BeatReply:
        """Answer at once if there is news for the agent, else when there is or the wait is over."""
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        session = await self.find(request.session, token)
        if request.closing:
            async with self._database.acquire() as connection:
                await store.end_session(
                    connection, session.number, "replaced" if request.replaced else "closed"
                )
            self._forget(request.session)
            return BeatReply(lease_s=0)
        deadline = asked_at + min(request.wait, self._lease_s / 3)
        # What the agent held when it asked is compared once: while it is parked it claims and
        # reports on other connections.
        held = request.held
        while True:
            session.wake.clear()
            reply = await self._news(session, held, asked_at)
            held = None
            if (
                reply.redeliver
                or not set(reply.cancel) <= set(request.cancelling)
                or (reply.drain and not request.draining)
                or request.flush_ms not in {UNSET, reply.flush_ms}
                or loop.time() >= deadline
                or self._stopping
            ):
                return reply
            if not await _woken(session.wake, deadline):
                # Nobody told of anything; if a notice was lost, the next beat's look finds it.
                return msgspec.structs.replace(reply, lease_s=self._lease_left(session, asked_at))
            if request.session not in self._by_id:
                raise SessionGoneError

    async def _find_many(self, secrets: list[str]) -> list[SessionRow | None]:
        async with self._database.acquire() as connection:
            return await store.find_many(connection, secrets)

    async def _held_by_many(self, sessions: list[int]) -> list[Holding]:
        async with self._database.acquire() as connection:
            return await claim_store.held_by_many(connection, sessions)

    async def _news(
        self, session: Session, held: tuple[Held, ...] | None, asked_at: float
    ) -> BeatReply:
        holding = await self._held.submit(session.number)
        session.drain = holding.drain
        owned = {key for key, _ in holding.tasks}
        cancel = [key for key, cancelled in holding.tasks if cancelled]
        missing: list[int] = []
        if held is not None:
            # Cancelled ones too: only its lease can end an attempt.
            missing = [task for task, _ in sorted(owned.difference(held))]
            cancel += sorted(set(held) - owned)
        redeliver = await self._redeliver(session.number, missing) if missing else ()
        return BeatReply(
            lease_s=self._lease_left(session, asked_at),
            cancel=tuple(cancel),
            redeliver=redeliver,
            drain=holding.drain,
            flush_ms=self._watched.flush_ms(session.number),
        )

    async def _redeliver(self, session: int, tasks: list[int]) -> tuple[ClaimedTask, ...]:
        async with self._database.acquire() as connection:
            claimed = await claim_store.redeliver(connection, session, tasks)
        return await self._prepare(session, claimed)

    def _lease_left(self, session: Session, asked_at: float) -> float:
        """Seconds, counted from the request, as the agent counts.

        Its renewal was committed while it was parked: counted from the reply, the time of parking
        would be lost twice.
        """
        return max(0.0, session.renewed_at + self._lease_s - asked_at)

    def wake(self, numbers: Iterable[int]) -> None:
        """Something changed for these sessions: their parked beats look again."""
        for number in numbers:
            if session := self._by_id.get(self._by_number.get(number, "")):
                session.wake.set()

    def wake_all(self) -> None:
        """Anything may have changed."""
        self.wake(list(self._by_number))

    def revoke(self, token: str) -> list[int]:
        """Forget the sessions of a token that was revoked; the database has ended them."""
        lost = {
            secret: session.number
            for secret, session in self._by_id.items()
            if session.token == token
        }
        for secret in lost:
            self._forget(secret)
        return list(lost.values())

    def stop(self) -> None:
        """Park no beat any more: the server goes away."""
        self._stopping = True
        self.wake_all()

    async def run(self) -> None:
        """Answer, and renew what was heard of every few seconds, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._rows.run())
            group.create_task(self._held.run())
            group.create_task(self._renew_for_ever())

    async def _renew_for_ever(self) -> None:
        while True:
            await asyncio.sleep(min(_RENEW_S, self._lease_s / 10))
            try:
                await self._renew()
                self._forget_silent()
            except Exception as error:  # noqa: BLE001 - the database is away: the next round renews
                _log.warning("cannot renew sessions: %r", error)

    async def _renew(self) -> None:
        now = asyncio.get_running_loop().time()
        heard = {secret: session for secret, session in self._by_id.items() if session.touched}
        if not heard:
            return
        for session in heard.values():
            session.touched = False
        try:
            async with self._database.acquire() as connection:
                alive = await store.renew_many(
                    connection, [session.number for session in heard.values()]
                )
        except BaseException:
            for session in heard.values():
                session.touched = True
            raise
        for secret, session in heard.items():
            if session.number not in alive:
                self._forget(secret)
                continue
            session.renewed_at = now
            if session.drain != alive[session.number]:
                session.drain = alive[session.number]
                session.wake.set()

    def _forget_silent(self) -> None:
        """Sessions that speak to another process, or to none."""
        oldest = asyncio.get_running_loop().time() - 2 * self._lease_s
        for secret, session in list(self._by_id.items()):
            if session.renewed_at < oldest and not session.touched:
                self._forget(secret)

    def _remember(self, secret: str, session: Session) -> None:
        self._by_id[secret] = session
        self._by_number[session.number] = secret

    def _forget(self, secret: str) -> None:
        session = self._by_id.pop(secret, None)
        if session is not None:
            self._by_number.pop(session.number, None)
            session.wake.set()


async def _woken(wake: asyncio.Event, deadline: float) -> bool:
    """Wait for the event; False where the deadline came first."""
    try:
        async with asyncio.timeout_at(deadline):
            await wake.wait()
    except TimeoutError:
        return False
    return True
