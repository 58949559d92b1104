"""`GET /tasks/{id}/logs` and `logs.gz`."""

from http import HTTPStatus
from typing import Annotated, Any

from litestar import Request, get
from litestar.params import FromQuery, QueryParameter
from litestar.response import Stream as StreamResponse

from api import access, bodies
from api.contents import StreamContents, contents_of
from api.problems import ProblemError, not_found
from api.reading import LogReader, Timestamps
from api.routes.services import Services, services
from api.routes.tasks import TaskId, no_task
from api.store import logs as store
from api.store import tasks as task_store
from schema.tasks import LogState, Stream

_MOST_TAIL = 10_000
# The state of both streams together is that of the worse one.
_WORST: tuple[LogState, ...] = (
    "expired", "open", "damaged", "missing", "undeclared", "complete",
)  # fmt: skip


@get("/tasks/{task_id:int}/logs", media_type="text/plain", tags=["tasks"], opt=access.READ)
async def read(
    request: Request[Any, Any, Any],
    task_id: TaskId,
    stream: Annotated[
        Stream | None,
        QueryParameter(description="Both, merged in the order of arrival, if not given."),
    ] = None,
    attempt: Annotated[int | None, QueryParameter(ge=1, le=2**31 - 1)] = None,
    offset: Annotated[
        int | None, QueryParameter(ge=0, le=2**62, description="First byte; needs `stream`.")
    ] = None,
    tail: Annotated[
        int | None,
        QueryParameter(ge=0, le=_MOST_TAIL, description="The last lines, at most 8 MiB."),
    ] = None,
    timestamps: FromQuery[Timestamps] = "none",
) -> StreamResponse:
    """What an attempt wrote, the newest one's if none is named, byte for byte.

    The header `Log-State` says complete, open, missing, damaged, undeclared or expired;
    `Log-Missing` the byte ranges that never arrived. Of an attempt that runs, all that joins
    without a gap is given; of a damaged log each byte once, as the chunk has it that begins first.
    """
    if offset is not None and (stream is None or tail is not None or timestamps != "none"):
        raise ProblemError(
            HTTPStatus.BAD_REQUEST,
            "offset counts the bytes of one stream: give `stream`, not tail or timestamps",
        )
    found = services(request)
    streams: tuple[Stream, ...] = ("stdout", "stderr") if stream is None else (stream,)
    contents = await _contents(found, task_id, attempt, streams)
    if not contents:
        return StreamResponse([], headers={"Log-State": "open"})
    reader = LogReader(found.database, task_id, contents)
    headers = _headers(contents)
    plain = stream is not None and tail is None and timestamps == "none"
    pieces = reader.raw(offset or 0) if plain else reader.lines(timestamps, tail)
    return StreamResponse(pieces, headers=headers)


@get("/tasks/{task_id:int}/logs.gz", media_type="application/gzip", tags=["tasks"], opt=access.READ)
async def download(
    request: Request[Any, Any, Any],
    task_id: TaskId,
    stream: FromQuery[Stream],
    attempt: Annotated[int | None, QueryParameter(ge=1, le=2**31 - 1)] = None,
) -> StreamResponse:
    """One stream of an attempt as a gzip file, sent as it is stored. Headers as for `logs`."""
    found = services(request)
    contents = await _contents(found, task_id, attempt, (stream,))
    if not contents:
        return StreamResponse([bodies.deflate(b"")], headers={"Log-State": "open"})
    headers = {
        **_headers(contents),
        "Content-Disposition": f'attachment; filename="task-{task_id}-{stream}.log.gz"',
    }
    return StreamResponse(LogReader(found.database, task_id, contents).members(), headers=headers)


def _headers(contents: list[StreamContents]) -> dict[str, str]:
    state = min((each.state for each in contents), key=_WORST.index)
    headers = {"Log-State": str(state)}
    missing = [
        f"{each.stream}={first}-{end - 1}" for each in contents for first, end in each.missing
    ]
    if missing and state != "open":
        headers["Log-Missing"] = ", ".join(missing[:50])
    return headers


async def _contents(
    found: Services, task_id: int, attempt: int | None, streams: tuple[Stream, ...]
) -> list[StreamContents]:
    """What there is to read; empty for a task that never ran."""
    async with found.database.reading() as connection:
        place = await store.attempt_place(connection, task_id, attempt)
        if place is None:
            if not await task_store.get_many(connection, [task_id]):
                raise no_task(task_id)
            if attempt is not None:
                raise not_found(f"task {task_id} has no attempt {attempt}")
            return []
        return await contents_of(connection, task_id, place, streams)


HANDLERS = [read, download]
