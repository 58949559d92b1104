"""Takes over from a dead agent of the same state folder: sends what it left, ends its session."""

import asyncio
import contextlib
import logging

from agent.api_client import ApiClient, ApiError
from agent.inheritance import Inheritance, rebuild
from agent.outbox import Outbox
from agent.session_note import SessionNote
from agent.spool import Spool, SpoolError
from schema.sessions import Beat, Held

log = logging.getLogger("agent")


class Heir:
    """Results that a dead agent could not send count as long as its session lives.

    So that is ended at once where there are none, and else as soon as they are sent.
    """

    def __init__(self, spool: Spool, note: SessionNote, outbox: Outbox, api: ApiClient) -> None:
        self._spool = spool
        self._note = note
        self._outbox = outbox
        self._api = api
        self._dead: str | None = None
        self._results: set[Held] = set()
        self._all_told = asyncio.Event()

    async def take_over(self) -> str | None:
        """Queue what was left; gives the session that the first one of ours shall replace."""
        self._dead = self._note.read()
        await self._restore()
        if self._results:
            return None
        dead, self._dead = self._dead, None
        return dead

    async def _restore(self) -> None:
        try:
            left = await asyncio.to_thread(_read, self._spool)
        except (OSError, SpoolError) as error:
            log.warning("the spool cannot be read; what a dead agent left stays there: %s", error)
            return
        self._results = left.results
        self._outbox.restore(left.deliveries, left.parcels)
        if left.deliveries:
            log.info(
                "sending what a dead agent left of its tasks: %d bytes of output, %d of %d results",
                sum(parcel.plain_bytes for parcel in left.parcels),
                len(left.results),
                len(left.deliveries),
            )
        if self._spool.damaged:
            log.error("%d records of unsent output are damaged and lost", self._spool.damaged)
        if self._spool.strangers:
            log.warning(
                "%d files of unsent output are for another API_URL: they wait for an agent that "
                "has it",
                self._spool.strangers,
            )

    def settled(self, key: Held) -> None:
        """Note that the result of an attempt needs no more sending."""
        self._results.discard(key)
        if not self._results:
            self._all_told.set()

    async def run(self) -> None:
        """End the dead agent's session when nothing more can count there."""
        if self._dead is None:
            return
        await self._all_told.wait()
        with contextlib.suppress(ApiError):  # then its lease will end
            await self._api.beat(Beat(session=self._dead, closing=True, replaced=True))


def _read(spool: Spool) -> Inheritance:
    return rebuild(spool.recover(), spool.read)
