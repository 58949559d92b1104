"""The loops that send logs and results, and act on the API's verdict about each."""

import logging
from collections.abc import Callable

import msgspec

from agent.api_client import ApiClient, Backoff, RefusedError
from agent.outbox import Outbox
from agent.parcels import Batch, Delivery, Parcel
from agent.session import Session
from schema.reports import MAX_MESSAGE_CHARS, Report, ReportReply, Result, Verdict
from schema.sessions import Held

log = logging.getLogger("agent")

MOST_BYTES = 8 * 1024 * 1024
MOST_ITEMS = 1000
_LEAST_BYTES = 524_288
_STATUS_TOO_LARGE = 413
_STORED = frozenset({"ok", "duplicate"})


class Reports:
    """Sends what the outbox holds as soon as there is something.

    What piles up meanwhile goes together: batches grow with the load, and no timer is needed.
    """

    def __init__(
        self,
        api: ApiClient,
        session: Session,
        outbox: Outbox,
        settled: Callable[[Held], None],
        most_bytes: int = MOST_BYTES,
    ) -> None:
        """`settled` hears of each attempt whose result needs no more sending.

        A request carries `most_bytes`, or one chunk; what is on the disk is in memory meanwhile.
        """
        self._api = api
        self._session = session
        self._outbox = outbox
        self._settled = settled
        self._bytes_limit = self._bytes = most_bytes
        self._items = MOST_ITEMS
        self._corrected: set[Held] = set()

    async def loop(self) -> None:
        """Send one request after the other until cancelled. Two of these run side by side."""
        backoff = Backoff()
        failed = False
        while True:
            # On a line that cuts all that is large, results must not wait behind it.
            batch = self._outbox.take_results(self._items) if failed else None
            batch = batch or await self._outbox.take(self._bytes, self._items)

            async def send(session: str, batch: Batch = batch) -> bool:
                return await self._send(session, batch)

            try:
                sent = await self._session.ask(send, backoff)
            finally:
                self._outbox.request_over(batch)
            failed = sent is None
            if failed:
                # Fewer bytes have a better chance on a line that is slow or breaks.
                self._bytes = min(max(self._bytes // 2, _LEAST_BYTES), self._bytes_limit)
                self._outbox.put_back(batch)

    async def _send(self, session: str, batch: Batch) -> bool:
        report = Report(
            session=session,
            chunks=tuple(parcel.chunk for parcel in batch.parcels if parcel.chunk is not None),
            results=tuple(one.result for one in batch.deliveries if one.result is not None),
        )
        try:
            reply = await self._api.report(report)
        except RefusedError as error:
            self._refused(batch, error)
            return True
        if len(reply.chunks) != len(report.chunks) or len(reply.results) != len(report.results):
            self._refused(batch, RefusedError("the API left items without a verdict", 0))
            return True
        self._settle(batch, reply)
        self._bytes = min(self._bytes * 2, self._bytes_limit)
        self._items = min(self._items * 2, MOST_ITEMS)
        return True

    def _refused(self, batch: Batch, error: RefusedError) -> None:
        """Send the same in smaller pieces, until the item at fault stands alone."""
        if len(batch) > 1:
            self._outbox.put_back(batch)
            self._items = len(batch) // 2
            if error.status == _STATUS_TOO_LARGE:
                sent = sum(parcel.wire_bytes for parcel in batch.parcels)
                self._bytes_limit = self._bytes = max(min(self._bytes_limit, sent // 2), 1)
            return
        verdict = Verdict("invalid", str(error))
        for parcel in batch.parcels:
            self._drop(parcel, verdict)
            self._outbox.settle_chunk(parcel)
        for delivery in batch.deliveries:
            self._correct(delivery, verdict)

    def _settle(self, batch: Batch, reply: ReportReply) -> None:
        refused: set[Held] = set()
        for parcel, verdict in zip(batch.parcels, reply.chunks, strict=True):
            if verdict.verdict not in _STORED:
                refused.add(parcel.delivery.key)
                self._drop(parcel, verdict)
            self._outbox.settle_chunk(parcel)
        for delivery, verdict in zip(batch.deliveries, reply.results, strict=True):
            if verdict.verdict == "conflict" and delivery.key in refused:
                self._again(delivery, delivery.result)  # this time without the refused chunk
            elif verdict.verdict in {"conflict", "invalid"}:
                self._correct(delivery, verdict)
            else:
                if verdict.verdict == "stale":
                    log.debug("task %d attempt %d: another attempt counts", *delivery.key)
                self._end(delivery)

    def _drop(self, parcel: Parcel, verdict: Verdict) -> None:
        chunk = parcel.chunk
        assert chunk is not None, "it was sent"
        if parcel.from_tail and verdict.verdict == "conflict":
            return  # the dead agent had sent the whole chunk of which this is a part
        log.warning(
            "task %d attempt %d: %s bytes %d-%d are lost, the API says %s%s",
            *parcel.delivery.key,
            chunk.stream,
            chunk.offset,
            chunk.offset + parcel.plain_bytes,
            verdict.verdict,
            f": {verdict.why}" if verdict.why else "",
        )

    def _correct(self, delivery: Delivery, verdict: Verdict) -> None:
        """Say in the simplest way that the attempt ended: unsaid, it would stay open for ever."""
        result = delivery.result
        log.error(
            "task %d attempt %d: its result was refused as %s%s",
            *delivery.key,
            verdict.verdict,
            f": {verdict.why}" if verdict.why else "",
        )
        if result is None or delivery.key in self._corrected:
            self._end(delivery)
            return
        self._corrected.add(delivery.key)
        message = f"the full result was refused ({verdict.why or verdict.verdict})"
        self._again(
            delivery,
            Result(
                lease=delivery.lease,
                reason=result.reason,
                exit_code=result.exit_code,
                signal=result.signal,
                message=message[:MAX_MESSAGE_CHARS],
            ),
        )

    def _again(self, delivery: Delivery, result: Result | None) -> None:
        if result is not None:
            self._outbox.settle_result(delivery)
            self._outbox.finish(delivery, msgspec.structs.replace(result))

    def _end(self, delivery: Delivery) -> None:
        result = delivery.result
        self._corrected.discard(delivery.key)
        self._outbox.settle_result(delivery)
        if result is not None:
            self._settled(delivery.key)
