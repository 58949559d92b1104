"""`GET /tasks/{id}/logs`, `logs/lines` and `logs.gz`."""

from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Annotated, Any

from litestar import Request, get
from litestar.params import FromQuery, QueryParameter
from litestar.response import Stream as StreamResponse

from api import access, members, pages, searching
from api.access import Who, who_asks
from api.contents import StreamContents, contents_of
from api.positions import Position
from api.problems import ProblemError
from api.reading import LogReader, Timestamps, View
from api.routes.described import answers, header
from api.routes.services import Services, services
from api.routes.tasks import TaskId, no_attempt, no_task
from api.searching import BadPatternError, Pattern
from api.store import logs as store
from api.store import one_moment
from api.store import tasks as task_store
from schema.logs import MAX_PAGE_LINES, MAX_TAIL, WORST, LogPage
from schema.tasks import Stream

BOTH: tuple[Stream, ...] = ("stdout", "stderr")

_AS_IT_IS = {"X-Content-Type-Options": "nosniff"}
"""A browser shall not find out by itself that what a task wrote looks like a page."""

_READ_AGAIN_S = 5.0
FROM_0 = {"minimum": 0}
"""litestar leaves a bound of 0 out of its document."""

OneStream = Annotated[
    Stream | None,
    QueryParameter(description="By default both, merged in order of arrival."),
]
AttemptNumber = Annotated[
    int | None, QueryParameter(ge=1, le=2**31 - 1, description="By default the newest one.")
]
Tail = Annotated[
    int | None,
    QueryParameter(
        ge=0, le=MAX_TAIL, schema_extra=FROM_0, description="The last lines, at most 8 MiB."
    ),
]
Line = Annotated[
    int, QueryParameter(ge=1, le=2**62, description="Number of the first line; nothing before "
                        "it is read.")
]  # fmt: skip
Grep = Annotated[
    str | None, QueryParameter(max_length=1000, description="Only lines that contain this text.")
]
Wildcards = Annotated[bool, QueryParameter(description="`*` in `grep` matches any characters.")]
IgnoreCase = Annotated[bool, QueryParameter(description="ASCII letters only, in `grep`.")]

_HEADERS = [
    header("Log-State", "How complete the log is: see `logs` of `GET /tasks/{task_id}`."),
    header("Log-Missing", "`stream=first-last`: bytes that never arrived."),
]


def wanted(grep: str | None, *, wildcards: bool, ignore_case: bool) -> Pattern | None:
    """What to search for; a 400 problem where nothing can be."""
    if grep is None:
        return None
    try:
        return searching.pattern(grep, wildcards=wildcards, ignore_case=ignore_case)
    except BadPatternError as error:
        raise ProblemError(HTTPStatus.BAD_REQUEST, str(error)) from None


@get(
    "/tasks/{task_id:int}/logs",
    media_type="text/plain",
    tags=["logs"],
    opt=access.READ,
    response_headers=_HEADERS,
    operation_class=answers("429"),
)
async def read(
    request: Request[Any, Any, Any],
    task_id: TaskId,
    *,
    stream: OneStream = None,
    attempt: AttemptNumber = None,
    offset: Annotated[
        int | None,
        QueryParameter(
            ge=0, le=2**62, schema_extra=FROM_0, description="First byte; needs `stream`."
        ),
    ] = None,
    line: Line = 1,
    lines: Annotated[
        int | None,
        QueryParameter(ge=0, le=2**62, schema_extra=FROM_0, description="At most this many lines."),
    ] = None,
    tail: Tail = None,
    timestamps: FromQuery[Timestamps] = "none",
    numbers: Annotated[
        bool, QueryParameter(description="Prefix each line with its number, like grep -n.")
    ] = False,
    grep: Grep = None,
    wildcards: Wildcards = False,
    ignore_case: IgnoreCase = False,
) -> StreamResponse:
    """What an attempt wrote, the newest one's if none is named, byte for byte.

    The header `Log-State` says complete, open, cut, missing, damaged, undeclared or expired;
    `Log-Missing` the byte ranges that never arrived. Of an attempt that runs, all that joins
    without a gap is given; of a damaged log each byte once, as the chunk has it that begins first.
    """
    view = View(
        line=line, lines=lines, tail=tail, timestamps=timestamps, numbers=numbers,
        pattern=wanted(grep, wildcards=wildcards, ignore_case=ignore_case),
    )  # fmt: skip
    if offset is not None and (stream is None or view != View()):
        raise ProblemError(
            HTTPStatus.BAD_REQUEST,
            "offset counts the bytes of one stream: give `stream`, and no tail, timestamps or"
            " other line options",
        )
    found = services(request)
    who = reader_of(request)
    contents = await _contents(found, task_id, attempt, BOTH if stream is None else (stream,))
    if not contents:
        return StreamResponse([], headers={"Log-State": "open", **_AS_IT_IS})
    reader = LogReader(found.database, task_id, contents)
    plain = stream is not None and view == View()
    pieces = reader.raw(offset or 0) if plain else reader.text(view)
    return StreamResponse(counted(pieces, who), headers=_headers(contents))


@get("/tasks/{task_id:int}/logs/lines", tags=["logs"], opt=access.READ)
async def read_lines(
    request: Request[Any, Any, Any],
    task_id: TaskId,
    *,
    stream: OneStream = None,
    attempt: AttemptNumber = None,
    line: Line = 1,
    lines: Annotated[int, QueryParameter(ge=1, le=MAX_PAGE_LINES)] = 500,
    tail: Annotated[bool, QueryParameter(description="The last page.")] = False,
    grep: Grep = None,
    wildcards: Wildcards = False,
    ignore_case: IgnoreCase = False,
) -> LogPage:
    """A page of lines with their numbers and times, for programs.

    With `grep` it has the lines that match, and two seconds: `next` says where to go on.
    """
    pattern = wanted(grep, wildcards=wildcards, ignore_case=ignore_case)
    if tail and (line > 1 or pattern is not None):
        raise ProblemError(
            HTTPStatus.BAD_REQUEST, "tail=true is the last page: use it without line and grep"
        )
    view = View(
        line=line, lines=None if tail else lines, tail=lines if tail else None, pattern=pattern,
        numbers=True,
    )  # fmt: skip
    return await page_of(services(request), task_id, attempt, stream, view)


async def page_of(
    found: Services, task_id: int, attempt: int | None, stream: Stream | None, view: View
) -> LogPage:
    """A page of lines; of a task that never ran it is empty. A 404 problem."""
    contents = await _contents(found, task_id, attempt, BOTH if stream is None else (stream,))
    if not contents:
        return LogPage(
            task=task_id,
            attempt=0,
            state="open",
            total=0,
            lines=(),
            next=None,
            after=str(Position()),
        )
    reader = LogReader(found.database, task_id, contents)
    return await pages.read(reader, task_id, contents, view)


@get(
    "/tasks/{task_id:int}/logs.gz",
    media_type="application/gzip",
    tags=["logs"],
    opt=access.READ,
    response_headers=_HEADERS,
    operation_class=answers("429"),
)
async def download(
    request: Request[Any, Any, Any],
    task_id: TaskId,
    stream: FromQuery[Stream],
    attempt: AttemptNumber = None,
) -> StreamResponse:
    """One stream of an attempt as a gzip file, sent as it is stored. Headers as for `logs`."""
    found = services(request)
    who = reader_of(request)
    contents = await _contents(found, task_id, attempt, (stream,))
    if not contents:
        return StreamResponse([members.deflate(b"")], headers={"Log-State": "open"})
    headers = {
        **_headers(contents),
        "Content-Disposition": f'attachment; filename="task-{task_id}-{stream}.log.gz"',
    }
    pieces = LogReader(found.database, task_id, contents).members()
    return StreamResponse(counted(pieces, who), headers=headers)


def reader_of(request: Request[Any, Any, Any]) -> Who:
    """Whoever asks; 429 where it reads as many logs as it may."""
    who, most = who_asks(request), services(request).settings.max_log_reads
    if who.reads >= most:
        raise ProblemError(
            HTTPStatus.TOO_MANY_REQUESTS,
            f"{who.name} is already reading {most} logs from this worker (MAX_LOG_READS);"
            " retry later",
            retry_after_s=_READ_AGAIN_S,
        )
    return who


async def counted(pieces: AsyncIterator[bytes], who: Who) -> AsyncIterator[bytes]:
    """Pieces of a log, which counts until its reader has all of them or is gone."""
    who.reads += 1
    try:
        async for piece in pieces:
            yield piece
    finally:
        who.reads -= 1


def _headers(contents: list[StreamContents]) -> dict[str, str]:
    state = min((each.state for each in contents), key=WORST.index)
    headers = {"Log-State": str(state), **_AS_IT_IS}
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
    async with found.database.reading() as connection, one_moment(connection):
        place = await store.attempt_place(connection, task_id, attempt)
        if place is None:
            if not await task_store.get_many(connection, [task_id]):
                raise no_task(task_id)
            if attempt is not None:
                raise no_attempt(task_id, attempt)
            return []
        return await contents_of(connection, task_id, place, streams)


HANDLERS = [read, read_lines, download]
