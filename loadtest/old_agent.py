"""A legacy agent, through the compatible routes."""

import random
from collections.abc import Iterable
from http import HTTPStatus

import msgspec
from locust import between, tag, task

from loadtest import payloads
from loadtest.record import Attempt
from loadtest.simulated import COMEBACK, FAILING, Kind, Reply, Simulated, any_kind
from schema.claims import PulledTask
from schema.tasks import Status, Stream

_json = msgspec.json.Encoder()
_pulled = msgspec.json.Decoder(PulledTask | None)


class OldAgent(Simulated):
    """A legacy agent: pulls one task, sends JSON batches, then a status."""

    weight = 1
    wait_time = between(0.05, 0.25)

    @tag("compatible")
    @task
    def work(self) -> None:
        """Pull, upload, end."""
        record = self.run_.record
        reply = self.call("POST", "/tasks/pull", "pull", lambda _: b"")
        if reply.status != HTTPStatus.OK:
            return
        given = _pulled.decode(reply.body)
        if given is None:
            return
        if not self.run_.owns(given.command):  # of someone else: finished, not checked
            self._end(given.id, Attempt(), "succeeded")
            return
        attempt = record.given(given.id, 0, f"pull {next(self.run_.agents)}")
        kind = any_kind()
        batches: list[tuple[Stream, int]] = [("stdout", number) for number in range(kind.chunks)]
        batches.append(("stderr", 0))
        last = batches.pop()
        self._upload(given.id, attempt, kind, batches)
        # The original may send its status before its last batch.
        early = random.random() < 0.5  # noqa: PLR2004 - half of them
        status: Status = "failed" if random.random() < FAILING else "succeeded"
        if early:
            self._end(given.id, attempt, status)
        self._upload(given.id, attempt, kind, [last])
        if not early:
            self._end(given.id, attempt, status)

    def _upload(
        self,
        task_id: int,
        attempt: Attempt,
        kind: Kind,
        batches: Iterable[tuple[Stream, int]],
    ) -> None:
        for stream, index in batches:
            head = f"{self.run_.name} {task_id} {stream} batch {index}\n".encode()
            piece = self.run_.record.sending(attempt, stream, index, head, kind.payload.data)
            body = payloads.compatible_body(stream, index, head, kind.payload)
            reply = self.call(
                "POST",
                f"/tasks/{task_id}/logs",
                f"logs {kind.name} (compatible)",
                lambda _, body=body: body,  # type: ignore[misc]  # the body of this round
                {"Content-Encoding": "gzip"},
            )
            piece.acknowledged = self._good(task_id, "batch", reply)

    def _end(self, task_id: int, attempt: Attempt, status: Status) -> None:
        attempt.outcome = status
        body = _json.encode({"status": status})
        reply = self.call("PATCH", f"/tasks/{task_id}/status", "status", lambda _: body)
        attempt.acknowledged = self._good(task_id, "status", reply)

    def _good(self, task_id: int, what: str, reply: Reply) -> bool:
        if reply.status == HTTPStatus.OK:
            return True
        if reply.status not in COMEBACK:
            text = reply.body[:200].decode(errors="replace")
            self.run_.record.refused("refused", (task_id, 0), f"{what}: {reply.status} {text}")
        return False
