"""What agents are given of the tasks that they have claimed: leases, and secrets opened."""

from collections.abc import Sequence

from api.database import Database
from api.sealing import HOW_TO_SET, SealError, Seals
from api.store import secrets as store
from api.store.claims import Claimed
from api.store.results import Ended
from api.writing import Writer, Writes
from schema.claims import ClaimedTask


class Delivery:
    """Between the claim, which is committed, and the reply to it."""

    def __init__(
        self, database: Database, writer: Writer, seals: Seals | None, lease_key: bytes
    ) -> None:
        self._database = database
        self._writer = writer
        self._seals = seals
        self._lease_key = lease_key

    async def prepare(self, session: int, tasks: Sequence[Claimed]) -> tuple[ClaimedTask, ...]:
        """Give those that can run, in their order.

        One whose secrets cannot be opened ends as `spawn_error`, and runs again after a pause while
        CRASH_LIMIT allows: another server may have the key.
        """
        secret = [task.id for task in tasks if task.secret]
        if not secret:
            return tuple(task.for_agent(session, self._lease_key) for task in tasks)
        async with self._database.acquire() as connection:
            sealed = await store.get_many(connection, secret)
        given: list[ClaimedTask] = []
        ended: list[Ended] = []
        for task in tasks:
            try:
                secrets = self._open(task.id, sealed.get(task.id)) if task.secret else None
            except SealError as error:
                ended.append(_unopened(task, session, str(error)))
            else:
                given.append(task.for_agent(session, self._lease_key, secrets))
        await self._writer.write(Writes([], ended, resent=False))
        return tuple(given)

    def _open(self, task: int, sealed: bytes | None) -> dict[str, str]:
        if sealed is None:
            raise SealError("its secrets are no longer stored")
        if self._seals is None:
            raise SealError(f"this server has no key to open its secrets with: {HOW_TO_SET}")
        return self._seals.open(task, sealed)


def _unopened(task: Claimed, session: int, why: str) -> Ended:
    return Ended(
        task=task.id,
        attempt=task.attempt,
        session=session,
        outcome="unstarted",
        reason="spawn_error",
        message=why,
    )
