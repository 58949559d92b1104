"""An agent of today."""

import random
import time
from http import HTTPStatus

import msgspec
from locust import between, tag, task

from loadtest import payloads
from loadtest.payloads import Payload
from loadtest.record import AttemptKey, Piece, outcome_of
from loadtest.simulated import FAILING, Reply, Simulated, any_kind
from schema import marks
from schema.claims import ClaimedTask, ClaimReply, ClaimRequest
from schema.reports import LogChunk, Report, ReportReply, Result, StreamTotal, Verdict
from schema.sessions import Beat, BeatReply, SessionOpen, SessionOpened
from schema.tasks import Reason, Stream

_MOST_SLOTS = 16
_BEAT_S = 5.0
_PARKED_S = 1.0
_SMALL_BYTES = 16_384

_msgpack = msgspec.msgpack.Encoder()
_json = msgspec.json.Encoder()
_opened = msgspec.json.Decoder(SessionOpened)
_claimed = msgspec.json.Decoder(ClaimReply)
_beaten = msgspec.json.Decoder(BeatReply)
_reported = msgspec.json.Decoder(ReportReply)


class SessionGoneError(Exception):
    """The server knows the session no more."""


class Agent(Simulated):
    """An agent of today: a session, claims, reports in msgpack, a beat now and then."""

    weight = 8
    wait_time = between(0.05, 0.25)

    def on_start(self) -> None:
        """Open a session."""
        self.slots = random.randint(1, _MOST_SLOTS)
        self.held: dict[AttemptKey, ClaimedTask] = {}
        self._open()

    @tag("agent")
    @task
    def work(self) -> None:
        """Claim, upload, report."""
        try:
            self._claim()
            if time.monotonic() > self.beat_at:
                self._beat()
            if self.held:
                self._run_held()
        except SessionGoneError:
            self.run_.record.excuse(self.held, "its session was gone")
            self.held.clear()
            self.run_.sessions.discard(self.session)
            self._open()

    def _open(self) -> None:
        # The server tells by it who held an attempt: a name for each session, which is a secret.
        self.name = f"agent {next(self.run_.agents)}"
        body = _json.encode(
            SessionOpen(
                agent=self.name, labels=(self.run_.label,), slots=self.slots, version="load"
            )
        )
        while True:
            reply = self.call("POST", "/sessions", "open a session", lambda _: body)
            if reply.status == HTTPStatus.CREATED:
                break
        self.session = _opened.decode(reply.body).session
        self.run_.sessions.add(self.session)
        self.beat_at = time.monotonic() + random.uniform(0, _BEAT_S)

    def _ask(self, path: str, name: str, sent: ClaimRequest | Beat) -> Reply:
        body = _json.encode(sent)
        reply = self.call("POST", path, name, lambda _: body)
        if reply.status == HTTPStatus.GONE:
            raise SessionGoneError
        return reply

    def _claim(self) -> None:
        record = self.run_.record
        record.lost_claims[self.name] += 1  # until the answer is here: a kill may come between
        asked = ClaimRequest(self.session, self.slots, wait=_PARKED_S)
        reply = self._ask("/claims", "claim", asked)
        if reply.status != HTTPStatus.OK:
            return
        if reply.resent:
            self.beat_at = 0  # the answer that was lost may have brought tasks
        else:
            record.lost_claims[self.name] -= 1
        for given in _claimed.decode(reply.body).tasks:
            self._take(given)

    def _take(self, given: ClaimedTask) -> None:
        key = (given.id, given.attempt)
        attempt = self.run_.record.given(*key, self.name)
        if attempt.acknowledged:
            self.run_.record.refused(
                "ran again", key, "given out after its result was acknowledged"
            )
            return
        self.held[key] = given

    def _beat(self) -> None:
        """Compare what is held; take what a lost answer brought, end what was cancelled."""
        self.beat_at = time.monotonic() + _BEAT_S
        asked = Beat(session=self.session, held=tuple(self.held))
        reply = self._ask("/beats", "beat", asked)
        if reply.status != HTTPStatus.OK:
            return
        news = _beaten.decode(reply.body)
        for given in news.redeliver:
            self._take(given)
        cancelled = [key for key in news.cancel if key in self.held]
        if cancelled:
            self._report("cancellations", [], [(key, "cancelled", None) for key in cancelled])

    def _run_held(self) -> None:
        """Upload and end all that is held: small logs together, large ones one by one."""
        kind = any_kind()
        keys = list(self.held)
        together = [keys] if len(kind.payload.data) < _SMALL_BYTES else [[key] for key in keys]
        for number in range(kind.chunks):
            for some in together:
                ends = some if number == kind.chunks - 1 else []
                self._report(
                    f"report {kind.name}",
                    [
                        (key, "stderr" if key[0] % 5 == 0 else "stdout", kind.payload)
                        for key in some
                    ],
                    [(key, "exit", int(random.random() < FAILING)) for key in ends],
                )

    def _report(
        self,
        name: str,
        logs: list[tuple[AttemptKey, Stream, Payload]],
        ends: list[tuple[AttemptKey, Reason, int | None]],
    ) -> None:
        record = self.run_.record
        sent: list[tuple[AttemptKey, Piece, LogChunk]] = []
        for key, stream, payload in logs:
            attempt = record.attempts[key]
            offset = attempt.total(stream)[0]
            head = f"{self.run_.name} {key[0]}.{key[1]} {stream} from byte {offset}\n".encode()
            piece = record.sending(attempt, stream, offset, head, payload.data)
            chunk = LogChunk(
                lease=self.held[key].lease,
                stream=stream,
                offset=offset,
                content=payloads.member(head, payload),
                marks=marks.encode([(0, time.time_ns() // 1000)]),
            )
            sent.append((key, piece, chunk))
        results = [self._result(key, reason, code) for key, reason, code in ends]

        def body(resent: bool) -> bytes:
            chunks = (msgspec.structs.replace(each, resent=resent) for _, _, each in sent)
            return _msgpack.encode(
                Report(session=self.session, chunks=tuple(chunks), results=tuple(results))
            )

        kind = {"Content-Type": "application/msgpack"}
        reply = self.call("POST", "/reports", name, body, kind)
        if reply.status == HTTPStatus.GONE:
            raise SessionGoneError
        if reply.status == HTTPStatus.OK:
            verdicts = _reported.decode(reply.body)
            for (key, piece, _), verdict in zip(sent, verdicts.chunks, strict=True):
                piece.acknowledged = self._good(key, "chunk", verdict, resent=reply.resent)
            for (key, _, _), verdict in zip(ends, verdicts.results, strict=True):
                acknowledged = self._good(key, "result", verdict, resent=reply.resent)
                record.attempts[key].acknowledged = acknowledged
        for key, _, _ in ends:
            del self.held[key]

    def _result(self, key: AttemptKey, reason: Reason, exit_code: int | None) -> Result:
        attempt = self.run_.record.attempts[key]
        attempt.outcome = outcome_of(reason, exit_code)
        return Result(
            lease=self.held[key].lease,
            reason=reason,
            exit_code=exit_code,
            run_s=0.01,
            stdout=StreamTotal(*attempt.total("stdout")),
            stderr=StreamTotal(*attempt.total("stderr")),
        )

    def _good(self, key: AttemptKey, what: str, verdict: Verdict, *, resent: bool) -> bool:
        if verdict.verdict == "ok" or (verdict.verdict == "duplicate" and resent):
            return True
        self.run_.record.refused("refused", key, f"{what}: {verdict.verdict}, {verdict.why}")
        return False


def _stream(key: AttemptKey) -> Stream:
    """One task in five writes to stderr."""
    return "stderr" if key[0] % 5 == 0 else "stdout"
