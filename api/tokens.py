"""Every token that lives, in the memory of each process: those of the environment and the table.

A request's token is found without asking the database. What has changed comes with a notice, and
is asked for every few seconds too, so that a revocation whose notice is lost takes effect all the
same. A token that is not known may be new: whoever brings one waits for the next look, which
all of them share, ten a second at most. So guessing is slow, and no load.
"""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Mapping
from hashlib import sha256

from api.access import NOBODY, Who
from api.batching import Bounds, Coalescer
from api.database import AWAY, Database
from api.notices import Notices
from api.store import tokens as store
from schema.tokens import Role

_PREFIX = "dw_"
_RANDOM_BYTES = 24
_LOOK_S = 3.0
_PAUSE_S = 0.1
_OVERLAP_S = 300.0  # a change may be committed that long after the time it bears
_NOTE_USED_S = 60.0
_WAITING = Bounds(items=20_000)
_log = logging.getLogger(__name__)


def digest_of(token: bytes) -> bytes:
    """What the table has of it: 192 random bits need no salt, and no slow hash."""
    return sha256(token).digest()


def new_token() -> str:
    """Make one that people, and programs that look for leaked secrets, recognise."""
    return _PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)


class Tokens:
    """Finds who a token belongs to.

    `given`: the environment's tokens by their variables; `loopback`: nobody else can connect.
    """

    def __init__(
        self,
        database: Database,
        notices: Notices,
        given: Mapping[str, tuple[Role, str]],
        *,
        loopback: bool,
    ) -> None:
        self._database = database
        self._notices = notices
        self._loopback = loopback
        self._by_digest: dict[bytes, Who] = {}
        self._by_ref: dict[str, Who] = {}
        self._changed = asyncio.Event()
        self._refreshing = asyncio.Lock()
        self._looked_at: float | None = None
        self._looks: Coalescer[None, None] = Coalescer(self._look, batch=_WAITING, queue=_WAITING)
        self.none = loopback
        """Whether no token is asked for: there is none, and only this machine can connect."""
        self.on_revoked: Callable[[str], None] = lambda _: None
        """Told the name of each token that ends, and of nobody's when one is asked for from now on,
        in every process."""
        self.given_admin = any(role == "admin" for role, _ in given.values())
        """Whether the environment names an admin's token."""
        for variable, (role, token) in given.items():
            digest = digest_of(token.encode())
            self._add(Who(f"{variable} (environment)", role, ref=variable, digest=digest))

    def known(self, token: bytes) -> Who | None:
        """Whose it is, if this process knows it."""
        who = self._by_digest.get(sha256(token).digest())
        if who is not None:
            who.used = True
        return who

    async def find(self, token: bytes) -> Who | None:
        """Whose it is; None if it does not live."""
        who = self.known(token)
        if who is None and token.startswith(_PREFIX.encode()):
            await self._looks.submit(None)
            who = self.known(token)
        return who

    async def named(self, ref: str) -> Who | None:
        """The token that a cookie names."""
        if ref not in self._by_ref:
            await self._looks.submit(None)
        who = self._by_ref.get(ref)
        if who is not None:
            who.used = True
        return who

    async def change(self) -> None:
        """One was made or revoked here, committed: this process knows it now, the others soon."""
        self._notices.tokens_changed()
        try:
            await self.refresh()
        except AWAY as error:  # what was just made must be shown all the same
            _log.warning("cannot check for changed tokens: %r", error)
            self._changed.set()

    def changed_elsewhere(self) -> None:
        """Another process says so."""
        self._changed.set()

    async def refresh(self) -> None:
        """Learn what has changed."""
        async with self._refreshing:  # in order: an older answer must not bring back the revoked
            now = asyncio.get_running_loop().time()
            within_s = None if self._looked_at is None else now - self._looked_at + _OVERLAP_S
            async with self._database.acquire() as connection:
                rows = await store.changed(connection, within_s)
            self._looked_at = now
            for row in rows:
                ref = str(row.id)
                if row.revoked:
                    self._remove(ref)
                elif ref not in self._by_ref:
                    self._add(Who(row.name, row.role, ref=ref, digest=row.digest, number=row.id))

    def _add(self, who: Who) -> None:
        self._by_ref[who.ref] = who
        self._by_digest.setdefault(who.digest, who)  # one in the environment too counts as there
        if self.none:
            self.none = False
            self.on_revoked(NOBODY.name)

    def _remove(self, ref: str) -> None:
        if who := self._by_ref.pop(ref, None):
            who.revoked = True
            if self._by_digest[who.digest] is who:
                del self._by_digest[who.digest]
            self.none = self._loopback and not self._by_ref
            self.on_revoked(who.name)

    async def _look(self, asking: list[None]) -> list[None]:
        await asyncio.sleep(_PAUSE_S)
        await self.refresh()
        return asking

    async def run(self) -> None:
        """Keep up with the table until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._looks.run())
            group.create_task(self._refresh_for_ever())
            group.create_task(self._note_used_for_ever())

    async def _refresh_for_ever(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._changed.wait()
            self._changed.clear()
            try:
                await self.refresh()
            except Exception as error:  # noqa: BLE001 - the database is away: the next look learns
                _log.warning("cannot check for changed tokens: %r", error)
                await asyncio.sleep(1)

    async def _note_used_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_NOTE_USED_S)
            used = [each for each in self._by_ref.values() if each.used]
            for each in used:
                each.used = False
            numbers = [each.number for each in used if each.number is not None]
            try:
                if numbers:
                    async with self._database.acquire() as connection:
                        await store.note_used(connection, numbers)
            except Exception as error:  # noqa: BLE001 - the next round writes what is used then
                _log.warning("cannot record the use of tokens: %r", error)
