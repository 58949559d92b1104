"""Requests of agents, each with what the model says of its answer."""

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from schema.claims import ClaimedTask, ClaimReply
from schema.reports import ReportReply, VerdictName
from schema.sessions import BeatReply, Held, SessionOpened
from tests.api.lease.facts import Lease, Session
from tests.api.lease.model import Model, deal
from tests.api.lease.world import Step, World
from tests.api.server import MSGPACK, Reply, chunk

AGENTS = ("one", "other")
BROKEN = b"not gzip"

ENDINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "success": ("succeeded", {"reason": "exit", "exit_code": 0}),
    "failure": ("failed", {"reason": "exit", "exit_code": 1}),
    "timeout": ("failed", {"reason": "timeout"}),
    "cancelled": ("cancelled", {"reason": "cancelled", "signal": 15}),
    "agent_lost": ("lost", {"reason": "agent_lost"}),
    "spawn_error": ("unstarted", {"reason": "spawn_error", "message": "no such shell"}),
    "returned": ("returned", {"reason": "returned"}),
}


class Piece(NamedTuple):
    """A chunk of a report; BROKEN data is sent as it is."""

    lease: Lease
    stream: str
    offset: int
    data: bytes
    resent: bool


class Ending(NamedTuple):
    """A result of a report; `how` is one of ENDINGS."""

    lease: Lease
    how: str


class Agents:
    """Makes requests; what they change in the model is changed when they are checked."""

    def __init__(self, model: Model, world: World) -> None:
        self._model = model
        self._world = world

    def open(self, at: int, labels: Sequence[str], replaces: Session | None) -> Step:
        """Start a session; the check returns it."""
        agent = AGENTS[len(self._model.sessions) % len(AGENTS)]
        body: dict[str, Any] = {"agent": agent, "labels": labels}
        if replaces is not None:
            body["replaces"] = replaces.secret

        def check(reply: Reply) -> Session:
            secret = reply.as_(SessionOpened).session
            number = self._world.services[at].sessions._by_id[secret].number
            session = Session(number, agent, secret, tuple(labels))
            self._model.open(at, session, replaces)
            return session

        return Step(self._world.apis[at].post("/sessions", body), check)

    def claim(self, at: int, session: Session, slots: int, ahead: int, *, lost: bool) -> Step:
        """Take tasks, all instances knowing what is pending; the check returns their leases.

        `lost`: the agent never gets the reply.
        """
        accepted = self._model.hear(at, session)
        best = self._model.best(session.labels, slots + ahead)
        body = {"session": session.secret, "slots": slots, "ahead": ahead}

        def check(reply: Reply) -> list[Lease]:
            if not accepted:
                return _gone(reply, session)
            tasks = reply.as_(ClaimReply).tasks
            ids = [task.id for task in tasks]
            if self._model.locked:  # locked ones count in the share of their queue
                assert set(ids) <= {task.id for task in self._model.best(session.labels, 1000)}
                assert len(ids) <= slots + ahead
            else:
                assert ids == [task.id for task in best]
            return self.given(session, tasks, lost=lost)

        return Step(self._world.apis[at].post("/claims", body), check)

    def claim_at_last(self, at: int, session: Session) -> Step:
        """Wait for tasks that are pending, whether the instance was told of them or not."""
        assert self._model.hear(at, session)
        body = {"session": session.secret, "slots": 1000, "wait": 20}

        def check(reply: Reply) -> list[Lease]:
            tasks = reply.as_(ClaimReply).tasks
            assert tasks
            assert {task.id for task in tasks} <= {
                task.id for task in self._model.best(session.labels, 1000)
            }
            return self.given(session, tasks, lost=False)

        return Step(self._world.apis[at].post("/claims", body), check)

    def claim_together(self, at: int, wanted: Sequence[tuple[Session, int, int]]) -> Step:
        """Take tasks in the same moment, (slots, ahead) each; the check returns the leases.

        All have the same labels, and the instance remembers them all, so that nothing comes in
        between.
        """
        calls = []
        for session, slots, ahead in wanted:
            assert self._model.hear(at, session)
            body = {"session": session.secret, "slots": slots, "ahead": ahead}
            calls.append(self._world.apis[at].post("/claims", body))
        shares = [(slots, ahead) for _, slots, ahead in wanted]
        best = self._model.best(wanted[0][0].labels, sum(map(sum, shares)))
        dealt: list[list[int]] = [[] for _ in wanted]
        for number, task in deal(shares, best):
            dealt[number].append(task.id)

        async def call() -> list[Reply]:
            return await asyncio.gather(*calls)

        def check(replies: list[Reply]) -> list[Lease]:
            leases = []
            for (session, *_), reply, ids in zip(wanted, replies, dealt, strict=True):
                tasks = reply.as_(ClaimReply).tasks
                assert [task.id for task in tasks] == ids
                leases += self.given(session, tasks, lost=False)
            return leases

        return Step(call(), check)

    def given(self, session: Session, tasks: Sequence[ClaimedTask], *, lost: bool) -> list[Lease]:
        """Tasks changed hands; returns the leases, if the agent gets to know them."""
        leases = []
        for given in tasks:
            task = self._model.tasks[given.id]
            lease = self._model.claim(task, session.number, given.lease)
            assert given.attempt == lease.attempt
            assert (given.command, given.exclusive) == (task.command, task.exclusive)
            leases.append(lease)
        if lost:
            return []
        session.holds.update(leases)
        return leases

    def beat(
        self, at: int, session: Session, held: Sequence[Held] | None, known: Sequence[Held] | None
    ) -> Step:
        """Say what is held; the check returns leases that were delivered again.

        `known`: cancellations that the agent knows of, as it knows of a wish to drain then.
        """
        accepted = self._model.hear(at, session)
        owned = {(task.id, task.attempt): task for task in self._model.owned(session.number)}
        cancel = {key for key, task in owned.items() if task.cancelled}
        missing = set[Held]()
        if held is not None:
            cancel |= set(held) - owned.keys()
            missing = owned.keys() - set(held)
        news = missing or not cancel <= set(known or ()) or (session.drain and known is None)
        body = {
            "session": session.secret, "held": held, "cancelling": known or (),
            "draining": known is not None, "wait": 20 if news else 0,  # news do not wait
        }  # fmt: skip

        def check(reply: Reply) -> list[Lease]:
            if not accepted:
                return _gone(reply, session)
            answer = reply.as_(BeatReply)
            assert sorted(answer.cancel) == sorted(cancel)
            assert [(each.id, each.attempt) for each in answer.redeliver] == sorted(missing)
            assert answer.drain == session.drain
            assert (answer.lease_s == 0) == session.known[at]
            leases = [self._model.leases[key] for key in sorted(missing)]
            for given, lease in zip(answer.redeliver, leases, strict=True):
                task = owned[lease.held]
                assert (given.command, given.exclusive) == (task.command, task.exclusive)
                assert given.lease == lease.text
            over = cancel - owned.keys()
            session.holds = {each for each in session.holds if each.held not in over}
            session.holds.update(leases)
            return leases

        return Step(self._world.apis[at].post("/beats", body), check)

    def close(self, at: int, session: Session, *, dead: bool) -> Step:
        """Say goodbye; or say that its agent is dead, as the one does that took over."""
        accepted = self._model.hear(at, session)

        def check(reply: Reply) -> None:
            if not accepted:
                _gone(reply, session)
                return
            assert reply.as_(BeatReply).lease_s == 0
            self._model.close(at, session, "replaced" if dead else "closed")

        body = {"session": session.secret, "closing": True, "replaced": dead}
        return Step(self._world.apis[at].post("/beats", body), check)

    def report(
        self, at: int, session: Session, pieces: Sequence[Piece], endings: Sequence[Ending]
    ) -> Step:
        """Hand in chunks and results."""
        accepted = self._model.hear(at, session)
        body = {
            "session": session.secret,
            "chunks": [_chunk(piece) for piece in pieces],
            "results": [{"lease": each.lease.text} | ENDINGS[each.how][1] for each in endings],
        }

        def check(reply: Reply) -> None:
            if not accepted:
                _gone(reply, session)
                return
            verdicts = reply.as_(ReportReply)
            wanted = self._reported(pieces, endings)
            assert [each.verdict for each in (*verdicts.chunks, *verdicts.results)] == wanted
            for ending, verdict in zip(endings, verdicts.results, strict=True):
                if verdict.verdict in {"ok", "duplicate", "stale"}:
                    session.holds.discard(ending.lease)

        call = self._world.apis[at].call(
            "POST", "/reports", data=msgspec.msgpack.encode(body),
            headers={"Content-Type": MSGPACK},
        )  # fmt: skip
        return Step(call, check)

    def _reported(self, pieces: Sequence[Piece], endings: Sequence[Ending]) -> list[VerdictName]:
        verdicts: list[VerdictName] = []
        refused, taken, seen = set[Lease](), set[Lease](), set[Lease]()
        for piece in pieces:
            verdict: VerdictName = "invalid"
            if piece.data != BROKEN:
                key = (piece.lease.task, piece.lease.attempt, piece.stream, piece.offset)
                verdict = self._model.store(key, piece.data)
            verdicts.append(verdict)
            if verdict in {"conflict", "invalid"}:
                refused.add(piece.lease)
        for lease, how in endings:
            outcome, result = ENDINGS[how]
            if lease in refused:
                verdicts.append("conflict")
            elif lease not in seen and self._model.end(lease, outcome, result["reason"]):
                taken.add(lease)
                verdicts.append("ok")
            else:
                again = lease in taken or self._model.ended_as(lease, result["reason"])
                verdicts.append("duplicate" if again else "stale")
            seen.add(lease)
        return verdicts


def _gone(reply: Reply, session: Session) -> list[Lease]:
    """A dead session is told so on every route, and its agent stops what it runs."""
    reply.problem(410, "open a new one")
    assert session.ended
    session.holds.clear()
    return []


def _chunk(piece: Piece) -> dict[str, Any]:
    sent = chunk(
        piece.lease.text, piece.data, stream=piece.stream, offset=piece.offset, resent=piece.resent
    )
    return sent | {"content": BROKEN} if piece.data == BROKEN else sent
