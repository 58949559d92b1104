"""The one who hands over tasks."""

from http import HTTPStatus

import msgspec
from locust import constant, tag, task

from loadtest.simulated import Simulated
from schema.tasks import Group

_QUEUED = 1000
_FEW_QUEUED = 100
_FEED_AT_ONCE = 500

_json = msgspec.json.Encoder()
_group = msgspec.json.Decoder(Group)


class Submitter(Simulated):
    """Keeps the queues fed."""

    fixed_count = 1
    wait_time = constant(0.1)

    def on_start(self) -> None:
        """Nothing is submitted yet."""
        self.fed: set[bool] = set()

    @tag("agent")
    @task
    def feed_agents(self) -> None:
        """Top up the queue of agents of today."""
        self._feed(_QUEUED, compatible=False)

    @tag("compatible")
    @task
    def feed_old_agents(self) -> None:
        """Top up the queue of legacy agents."""
        self._feed(_FEW_QUEUED, compatible=True)

    def _feed(self, wanted: int, *, compatible: bool) -> None:
        missing = wanted - self._pending(compatible=compatible)
        while missing > 0:
            self._submit(min(missing, _FEED_AT_ONCE), compatible=compatible)
            missing -= _FEED_AT_ONCE

    def _pending(self, *, compatible: bool) -> int:
        if compatible not in self.fed:
            return 0  # nobody knows the group yet
        path = f"/groups/{self.run_.group(compatible=compatible)}"
        reply = self.call("GET", path, "look at a group", lambda _: b"")
        if reply.status != HTTPStatus.OK:
            return _QUEUED
        return _group.decode(reply.body).counts.get("pending", 0)

    def _submit(self, count: int, *, compatible: bool) -> None:
        body = _json.encode(self.run_.submissions(count, compatible=compatible))
        reply = self.call("POST", "/tasks", "submit", lambda _: body)
        if reply.status == HTTPStatus.CREATED:
            self.run_.accepted(reply.body)
            self.fed.add(compatible)
