"""Tasks: submitted, listed, looked at, cancelled, run again."""

import re
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from litestar import Request, get, post
from litestar.openapi.spec import OpenAPIType, Schema
from litestar.params import FromQuery, PathParameter, QueryParameter

from api import access, bodies
from api.access import who_asks
from api.contents import contents_of
from api.lanes import TooManyLanesError
from api.problems import ProblemError, not_found
from api.routes.described import body
from api.routes.services import Services, services
from api.secrets import check_secrets
from api.store import logs as log_store
from api.store import tasks as store
from api.store.logs import STREAMS
from api.store.tasks import KeyConflictError
from api.submissions import check
from schema.tasks import (
    FINAL,
    Retry,
    Status,
    Stream,
    StreamLog,
    Submission,
    Submitted,
    Task,
    TaskPage,
)

_submissions = msgspec.json.Decoder(Submission | list[Submission])
_retry = msgspec.json.Decoder(Retry)
NO_CURSOR = 2**63 - 1
_CURSOR = re.compile(r"[0-9]{1,19}")
_MOST_IDS = 1000
_IDS = {"items": Schema(type=OpenAPIType.INTEGER, minimum=1, maximum=NO_CURSOR)}
_PAGE_BYTES = 16 * 1024 * 1024  # of commands and variables; a task may have 0.6 MB

Text = Annotated[str | None, QueryParameter(pattern=r"^[^\x00]*$")]

Cursor = Annotated[
    str | None,
    QueryParameter(
        description="`next` of the previous page.", schema_extra={"pattern": "^[0-9]{1,19}$"}
    ),
]

TaskId = Annotated[int, PathParameter(ge=1, le=NO_CURSOR, description="Id of the task.")]


def no_task(number: int) -> ProblemError:
    """404 for a task."""
    return not_found(f"there is no task {number}")


def no_attempt(number: int, attempt: int) -> ProblemError:
    """404 for an attempt of a task that is there."""
    return not_found(f"there is no attempt {attempt} of task {number}")


@post(
    "/tasks",
    tags=["tasks"],
    opt=access.SUBMIT,
    operation_class=body(
        Submission | list[Submission],
        {"command": "echo hello", "name": "greeting", "timeout": 60},
        problems="409 422 429",
    ),
)
async def submit(request: Request[Any, Any, Any]) -> Submitted | list[Submitted]:
    """Hand over one task, or an array of up to `MAX_TASKS`: all are stored, or none."""
    found = services(request)
    sent = await bodies.decoded(request, _submissions, found.large)
    tasks = [sent] if isinstance(sent, Submission) else sent
    if len(tasks) > (most := found.settings.max_tasks):
        raise ProblemError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"{len(tasks)} tasks in one submission: send at most {most} (MAX_TASKS)",
        )
    for number, task in enumerate(tasks):
        where = "$" if isinstance(sent, Submission) else f"$[{number}]"
        check(task, where)
        check_secrets(task, where, found.seals)
    answers = await _store(found, tasks, who_asks(request).name) if tasks else []
    return answers[0] if isinstance(sent, Submission) else answers


async def _store(found: Services, tasks: list[Submission], who: str) -> list[Submitted]:
    try:
        return await found.submitting.store(tasks, who)
    except TooManyLanesError:
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            f"`needs`: there would be more than {found.settings.max_lanes} distinct sets of labels"
            " (MAX_LANES); labels are for kinds of machines, not for single tasks",
        ) from None
    except KeyConflictError as error:
        raise ProblemError(
            HTTPStatus.CONFLICT,
            f"key {error.key!r} already belongs to another submission; nothing was stored",
        ) from None


@get("/tasks", tags=["tasks"], opt=access.READ)
async def list_tasks(
    request: Request[Any, Any, Any],
    id_: Annotated[
        list[int] | None, QueryParameter(name="id", max_items=_MOST_IDS, schema_extra=_IDS)
    ] = None,
    status: FromQuery[list[Status] | None] = None,
    group: Text = None,
    name: Text = None,
    agent: Text = None,
    limit: Annotated[int, QueryParameter(ge=1, le=1000)] = 100,
    cursor: Cursor = None,
) -> TaskPage:
    """Tasks, newest first. `id` and `status` may be repeated; with `id` only `status` filters."""
    below = NO_CURSOR if cursor is None else below_cursor(cursor)
    if id_ and not 1 <= min(id_) <= max(id_) <= NO_CURSOR:
        raise ProblemError(HTTPStatus.BAD_REQUEST, f"id: must be from 1 to {NO_CURSOR}")
    async with services(request).database.reading() as connection:
        if id_ is not None:
            ids = sorted(set(id_), reverse=True)
            named, read = await store.get_page(connection, ids, _PAGE_BYTES)
            if read < len(ids):
                raise ProblemError(
                    HTTPStatus.BAD_REQUEST,
                    f"id: these tasks have more than {_PAGE_BYTES} bytes together: name fewer",
                )
            return TaskPage(
                tuple(task for task in named if status is None or task.status in status), None
            )
        ids = await store.list_ids(
            connection, below=below, status=status, group=group, name=name, agent=agent,
            limit=limit + 1,
        )  # fmt: skip
        tasks, read = await store.get_page(connection, ids[:limit], _PAGE_BYTES)
    return TaskPage(tuple(tasks), str(ids[read - 1]) if len(ids) > read else None)


def below_cursor(cursor: str) -> int:
    """The number that a page's `next` names."""
    if not _CURSOR.fullmatch(cursor) or int(cursor) > NO_CURSOR:
        raise ProblemError(
            HTTPStatus.BAD_REQUEST, f"cursor {cursor!r}: use `next` of the previous page"
        )
    return int(cursor)


@get("/tasks/{task_id:int}", tags=["tasks"], opt=access.READ)
async def show(request: Request[Any, Any, Any], task_id: TaskId) -> Task:
    """One task with its logs' sizes and its earlier attempts."""
    return await in_full(services(request), task_id)


async def in_full(found: Services, task_id: int) -> Task:
    """One task with all that is known of it; a 404 problem."""
    async with found.database.reading() as connection:
        tasks = await store.get_many(connection, [task_id])
        if not tasks:
            raise no_task(task_id)
        attempts = await store.earlier_attempts(connection, task_id)
        place = await log_store.attempt_place(connection, task_id, None)
        logs: dict[Stream, StreamLog] = {}
        if place is not None:
            for contents in await contents_of(connection, task_id, place, STREAMS):
                logs[contents.stream] = contents.summary()
    return msgspec.structs.replace(tasks[0], logs=logs, attempts=attempts)


@post("/tasks/{task_id:int}/cancel", status_code=200, tags=["tasks"], opt=access.SUBMIT)
async def cancel(request: Request[Any, Any, Any], task_id: TaskId) -> Task:
    """End a task. One that runs ends when its agent has stopped it; one that is over stays so."""
    return await end(services(request), task_id, who_asks(request).name)


async def end(found: Services, task_id: int, who: str) -> Task:
    """End a task for somebody, and tell who must know; a 404 problem."""
    async with found.database.acquire() as connection:
        cancelled = await store.cancel(connection, task_id, who)
        tasks = await store.get_many(connection, [task_id])
    if not tasks:
        raise no_task(task_id)
    if cancelled is not None and cancelled.session is not None:
        found.notices.sessions_changed([cancelled.session])
    found.notices.tasks_moved([task_id])
    return tasks[0]


@post(
    "/tasks/{task_id:int}/retry",
    tags=["tasks"],
    opt=access.SUBMIT,
    status_code=200,
    operation_class=body(Retry, {"after_attempt": 1}, required=False, problems="409"),
)
async def retry(request: Request[Any, Any, Any], task_id: TaskId) -> Task:
    """Run a finished task again, with all its attempts before it."""
    found = services(request)
    sent = await bodies.decoded(request, _retry, found.small, without=Retry())
    return await run_again(found, task_id, sent.after_attempt, who_asks(request).name)


async def run_again(found: Services, task_id: int, after: int | None, who: str) -> Task:
    """Queue a finished task for somebody, and tell who must know; a 404 or 409 problem."""
    async with found.database.acquire() as connection:
        queued = await store.retry(connection, task_id, after, who)
        tasks = await store.get_many(connection, [task_id])
    if not tasks:
        raise no_task(task_id)
    task = tasks[0]
    if queued is not None:
        found.notices.tasks_queued([queued])
        found.notices.tasks_moved([task_id])
        return task
    waits = task.status in {"pending", "scheduled"}
    if after is not None and (task.attempt > after or (task.attempt == after and waits)):
        return task  # it was asked before and the reply was lost
    if task.status in FINAL and task.secrets and after in {None, task.attempt}:
        raise ProblemError(
            HTTPStatus.CONFLICT,
            f"the secrets of task {task_id} are no longer stored, because it succeeded or ended"
            " long ago: submit it again",
        )
    if task.status in FINAL:
        raise ProblemError(
            HTTPStatus.CONFLICT, f"task {task_id} is at attempt {task.attempt}, not {after}"
        )
    raise ProblemError(
        HTTPStatus.CONFLICT, f"task {task_id} is {task.status}: only a finished task can run again"
    )


HANDLERS = [submit, list_tasks, show, cancel, retry]
