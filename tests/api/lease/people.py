"""Requests of people, and of legacy agents, each with what the model says."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from schema.claims import PulledTask
from schema.sessions import DrainAsked
from schema.tasks import FINAL, Group, Submitted
from schema.tasks import Task as SeenTask
from tests.api.lease.facts import PULLED, Task
from tests.api.lease.model import Model
from tests.api.lease.world import Step, World
from tests.api.server import Reply

GROUP = "all"


class People:
    """Makes requests; what they change in the model is changed when they are checked."""

    def __init__(self, model: Model, world: World) -> None:
        self._model = model
        self._world = world
        self._sent: dict[int, dict[str, Any]] = {}

    def submit(
        self, at: int, count: int, *, needs: Sequence[str], later: bool, **fields: Any
    ) -> Step:
        """Hand over tasks with a key each; the check returns them."""
        fields["group"] = GROUP
        if later:
            fields["run_after"] = datetime.now(UTC) + timedelta(days=1)
        numbers = range(len(self._sent), len(self._sent) + count)
        bodies = [
            {"command": f"echo {number}", "key": f"key {number}", "needs": needs, "group": GROUP}
            | fields
            for number in numbers
        ]

        def check(reply: Reply) -> list[Task]:
            tasks = []
            for body, answer in zip(bodies, reply.as_(list[Submitted]), strict=True):
                task = Task(
                    answer.id, body["command"], frozenset(needs), body["priority"],
                    body["max_attempts"], body["exclusive"], "scheduled" if later else "pending",
                )  # fmt: skip
                assert (answer.status, answer.created) == (task.status, True)
                assert task.id not in self._model.tasks
                self._model.tasks[task.id] = task
                self._sent[task.id] = body
                tasks.append(task)
            return tasks

        return Step(self._world.apis[at].post("/tasks", bodies), check)

    def submit_again(self, at: int, task: Task, *, changed: bool) -> Step:
        """Hand over what is there already: the reply was lost."""
        body = self._sent[task.id] | ({"timeout": 60} if changed else {})

        def check(reply: Reply) -> None:
            if changed:
                reply.problem(409, "another submission")
            else:
                assert reply.as_(Submitted) == Submitted(task.id, task.status, created=False)

        return Step(self._world.apis[at].post("/tasks", body), check)

    def cancel(self, at: int, task: Task) -> Step:
        """Wish its end."""

        def check(reply: Reply) -> None:
            self._model.cancel(task)
            assert reply.as_(SeenTask).id == task.id

        return Step(self._world.apis[at].call("POST", f"/tasks/{task.id}/cancel"), check)

    def retry(self, at: int, task: Task, after: int | None) -> Step:
        """Run it again."""
        body = {} if after is None else {"after_attempt": after}

        def check(reply: Reply) -> None:
            if self._model.retry(task, after):
                assert reply.as_(SeenTask).id == task.id
            else:
                reply.problem(409, f"task {task.id}")

        return Step(self._world.apis[at].post(f"/tasks/{task.id}/retry", body), check)

    def look(self, at: int, task: Task) -> Step:
        """See one task with its attempts, the newest one too."""

        def check(reply: Reply) -> None:
            seen = reply.as_(SeenTask)
            assert (seen.status, seen.attempt, seen.reason) == (
                task.status, task.attempt, task.reason
            )  # fmt: skip
            assert seen.cancel_requested == task.cancelled
            assert seen.agent == self._agent(task.owner)
            assert isinstance(seen.attempts, tuple)
            assert [(each.attempt, each.agent, each.reason) for each in seen.attempts] == [
                (attempt, self._agent(past.owner), past.reason)
                for attempt, past in sorted(task.past.items())
            ]

        return Step(self._world.apis[at].call("GET", f"/tasks/{task.id}"), check)

    def count(self, at: int) -> Step:
        """See how many tasks there are in each state."""

        def check(reply: Reply) -> None:
            if not self._model.tasks:
                reply.problem(404, GROUP)
                return
            group = reply.as_(Group)
            assert group.counts == Counter(task.status for task in self._model.tasks.values())
            assert group.total == len(self._model.tasks)

        return Step(self._world.apis[at].call("GET", f"/groups/{GROUP}"), check)

    def _agent(self, owner: int | None) -> str | None:
        return self._model.sessions[owner].agent if owner else None

    def drain(self, at: int, agent: str) -> Step:
        """Wish that agents of this name come to their end."""

        def check(reply: Reply) -> None:
            if alive := self._model.drain(agent):
                assert reply.as_(DrainAsked).agents == alive
            else:
                reply.problem(404, agent)

        return Step(self._world.apis[at].call("POST", f"/agents/{agent}/drain"), check)

    def pull(self, at: int) -> Step:
        """Take a task as a legacy agent does."""
        best = self._model.best((), 1)

        def check(reply: Reply) -> None:
            given = msgspec.json.decode(reply.body, type=PulledTask | None)
            assert given == (PulledTask(best[0].id, best[0].command) if best else None)
            for task in best:
                self._model.claim(task, PULLED)

        return Step(self._world.apis[at].call("POST", "/tasks/pull"), check)

    def log(self, at: int, task: Task, stream: str, index: int, content: str) -> Step:
        """Send a batch of lines for a task, of whichever attempt."""

        def check(reply: Reply) -> None:
            meant = self._model.pulled(task)
            if meant is None:
                reply.problem(409, "/tasks/pull")
                return
            data = f"{content}\n".encode()
            key = (task.id, meant[0].attempt, stream, index)
            if self._model.store(key, data) == "conflict":
                reply.problem(409, f"{stream} batch {index}")
            else:
                assert reply.as_(dict) == {}

        body = {"kind": stream, "index": index, "content": content}
        return Step(self._world.apis[at].post(f"/tasks/{task.id}/logs", body), check)

    def status(self, at: int, task: Task, status: str) -> Step:
        """Say how a task ended, of whichever attempt."""

        def check(reply: Reply) -> None:
            meant = self._model.pulled(task)
            if meant is not None and meant[1] not in FINAL:
                self._model.end(meant[0], status, "exit")
                meant = self._model.pulled(task)
            if meant is None:
                reply.problem(409, "/tasks/pull")
            elif meant[1] != status:
                reply.problem(409, f"already {meant[1]}")
            else:
                assert reply.as_(dict) == {}

        call = self._world.apis[at].call(
            "PATCH", f"/tasks/{task.id}/status", json={"status": status}
        )
        return Step(call, check)
