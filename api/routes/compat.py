"""The routes of the original system: an agent written for it works unmodified.

It polls for one task at a time, and proves nothing: a task is named by its number alone. Lines
come joined by newlines without a final one, in batches numbered from 0 for each stream, gzipped or
not; the status may come before the last batch.
"""

from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, patch, post

from api import access, bodies, members
from api.log_limit import Beyond
from api.problems import ProblemError
from api.routes.described import body
from api.routes.services import Services, services
from api.routes.tasks import TaskId, no_task
from api.store import tasks as task_store
from api.store.logs import CUT_BY_API, STREAMS, Chunk
from api.store.results import Ended, PulledAttempt
from api.writing import OK, Writes
from schema.claims import PulledTask
from schema.reports import CompatLogs, CompatStatus
from schema.tasks import FINAL, Stream

_logs = msgspec.json.Decoder(CompatLogs)
_status = msgspec.json.Decoder(CompatStatus)


class _Batch(msgspec.Struct, frozen=True, gc=False):
    """One batch of lines as it is stored, of an attempt that is not known yet."""

    kind: Stream
    index: int
    size: int
    lines: int
    content: bytes

    @classmethod
    def decode(cls, body: bytes) -> "_Batch":
        """Compress it again as it was written, with the newline that the agent left out."""
        sent = _logs.decode(body)
        data = (sent.content + "\n").encode()
        return cls(
            sent.kind, sent.index, len(data), members.count_lines(data), members.deflate(data)
        )

    def chunk(self, task: int, owned: PulledAttempt) -> Chunk:
        """For the table."""
        return Chunk(
            day=owned.day,
            task=task,
            attempt=owned.attempt,
            stream=STREAMS[self.kind],
            position=self.index,
            size=self.size,
            lines=self.lines,
            crc=members.crc_of(self.content),
            marks=b"",
            content=self.content,
        )


@post("/tasks/pull", status_code=200, tags=["compatible"], opt=access.COMPATIBLE)
async def pull(request: Request[Any, Any, Any]) -> PulledTask | None:
    """Take one task that needs no label, or null. Agents of today use `POST /claims`."""
    for task in await services(request).claims.take(None, 1, 0):
        return PulledTask(task.id, task.command)
    return None


@post(
    "/tasks/{task_id:int}/logs",
    tags=["compatible"],
    opt=access.COMPATIBLE,
    status_code=200,
    operation_class=body(
        CompatLogs,
        {"kind": "stdout", "index": 0, "content": "line 1\nline 2"},
        problems="409 410",
    ),
)
async def add_logs(request: Request[Any, Any, Any], task_id: TaskId) -> dict[str, str]:
    """Store one batch of lines of a pulled task; of one whose log is full, note that it is cut."""
    found = services(request)
    sent = await bodies.decoded(request, _Batch, found.large, counted=False)
    owned = await _pulled(found, task_id)
    if not await found.pulled_logs.take(task_id, owned, sent.size):
        beyond = Beyond((task_id, owned.attempt), CUT_BY_API[sent.kind])
        if cut := found.cut_marks.due([beyond]):
            await found.writer.write(Writes([], [], resent=False, cut=cut))
            found.cut_marks.written([beyond])
        return {}
    written = await found.writer.write(Writes([sent.chunk(task_id, owned)], [], resent=False))
    verdict = written.chunks[0]
    if verdict.verdict == "conflict":
        raise ProblemError(
            HTTPStatus.CONFLICT,
            f"{sent.kind} batch {sent.index} is already stored with other content",
        )
    if verdict.verdict == "gone":
        raise ProblemError(HTTPStatus.GONE, f"task {task_id}: {verdict.why}")
    return {}


@patch(
    "/tasks/{task_id:int}/status",
    tags=["compatible"],
    opt=access.COMPATIBLE,
    operation_class=body(CompatStatus, {"status": "succeeded"}, problems="409"),
)
async def set_status(request: Request[Any, Any, Any], task_id: TaskId) -> dict[str, str]:
    """End a pulled task."""
    found = services(request)
    sent = await bodies.decoded(request, _status, found.small)
    owned = await _pulled(found, task_id)
    ended = Ended(
        task=task_id, attempt=owned.attempt, session=0, outcome=sent.status, reason="exit",
        exit_code=0 if sent.status == "succeeded" else None,
    )  # fmt: skip
    if owned.status not in FINAL:
        written = await found.writer.write(Writes([], [ended], resent=False))
        if written.ended[0] is OK:
            return {}
        owned = await _pulled(found, task_id)  # it was cancelled or lost just now
    if owned.status != sent.status:
        raise ProblemError(HTTPStatus.CONFLICT, f"task {task_id} is already {owned.status}")
    return {}


async def _pulled(found: Services, task_id: int) -> PulledAttempt:
    owned = await found.pulled.find(task_id)
    if owned is None:
        async with found.database.acquire() as connection:
            if not await task_store.get_many(connection, [task_id]):
                raise no_task(task_id)
        raise ProblemError(
            HTTPStatus.CONFLICT,
            f"task {task_id} was not taken through /tasks/pull: its agent reports to /reports",
        )
    return owned


HANDLERS = [pull, add_logs, set_status]
