"""Tasks: submitted, listed, looked at, cancelled, run again."""

import re
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from litestar import Request, get, post
from litestar.params import FromQuery, PathParameter, QueryParameter
from msgspec import UNSET

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
from schema.tasks import (
    FINAL,
    ISOLATION_LABEL,
    MAX_COMMAND_BYTES,
    MAX_TASKS_PER_SUBMISSION,
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
_NEEDS_BYTES = 2000  # an entry of the index that finds a lane has room for 2,700

Text = Annotated[str | None, QueryParameter(pattern=r"^[^\x00]*$")]

TaskId = Annotated[int, PathParameter(ge=1, le=NO_CURSOR, description="Number of the task.")]


def no_task(number: int) -> ProblemError:
    """404 for a task."""
    return not_found(f"there is no task {number}")


@post(
    "/tasks",
    tags=["tasks"],
    opt=access.SUBMIT,
    operation_class=body(
        Submission | list[Submission], {"command": "echo hello", "name": "greeting", "timeout": 60}
    ),
)
async def submit(request: Request[Any, Any, Any]) -> Submitted | list[Submitted]:
    """Hand over one task, or an array of up to 10,000: all are stored, or none."""
    found = services(request)
    sent = await bodies.decoded(request, _submissions, found.settings.max_body_bytes)
    tasks = [sent] if isinstance(sent, Submission) else sent
    if len(tasks) > MAX_TASKS_PER_SUBMISSION:
        raise ProblemError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"{len(tasks)} tasks in one submission: send at most {MAX_TASKS_PER_SUBMISSION}",
        )
    for number, task in enumerate(tasks):
        where = "$" if isinstance(sent, Submission) else f"$[{number}]"
        _check(task, where)
        check_secrets(task, where, found.seals)
    answers = await _store(found, tasks, who_asks(request).name) if tasks else []
    return answers[0] if isinstance(sent, Submission) else answers


def _check(task: Submission, where: str) -> None:
    """What the schema cannot say of a submission."""
    if wrong := _wrong_time(task.run_after):
        raise ProblemError(
            HTTPStatus.BAD_REQUEST, f"the body: run_after {wrong} - at `{where}.run_after`"
        )
    if (size := sum(len(label.encode()) for label in task.needs)) > _NEEDS_BYTES:
        raise ProblemError(
            HTTPStatus.BAD_REQUEST,
            f"the body: labels of {size} bytes together, {_NEEDS_BYTES} is the most"
            f" - at `{where}.needs`",
        )
    if wrong := _wrong_isolation(task):
        raise ProblemError(HTTPStatus.BAD_REQUEST, f"the body: {wrong} - at `{where}.isolation`")
    for label in task.needs:
        if label.startswith(ISOLATION_LABEL):
            raise ProblemError(
                HTTPStatus.BAD_REQUEST,
                f"the body: {label!r} is for agents to announce; ask with the field `isolation`"
                f" - at `{where}.needs`",
            )
    for name, value in task.env.items():
        if (size := len(f"{name}={value}".encode())) > MAX_COMMAND_BYTES:
            raise ProblemError(
                HTTPStatus.BAD_REQUEST,
                f"the body: {size} bytes are too long for a variable, {MAX_COMMAND_BYTES} is the"
                f" most - at `{where}.env.{name}`",
            )
    if (size := len(task.command.encode())) > MAX_COMMAND_BYTES:
        raise ProblemError(
            HTTPStatus.BAD_REQUEST,
            f"the body: {size} bytes are too long for a command, {MAX_COMMAND_BYTES} is the most:"
            f" put a long script in a file - at `{where}.command`",
        )


def _wrong_isolation(task: Submission) -> str | None:
    if task.image and task.isolation not in {UNSET, None, "docker"}:
        return f"an image is for a container, and isolation is {task.isolation!r}"
    return None


def _wrong_time(run_after: datetime | None) -> str | None:
    if run_after is None:
        return None
    if run_after.tzinfo is None:
        return "needs an offset from UTC, as Z is"
    try:
        run_after.astimezone(UTC)
    except OverflowError:
        return "lies outside the years 1 to 9999 of UTC"
    return None


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
            f"key {error.key!r} stands for another submission already; nothing was stored",
        ) from None


@get("/tasks", tags=["tasks"], opt=access.READ)
async def list_tasks(
    request: Request[Any, Any, Any],
    id_: Annotated[list[int] | None, QueryParameter(name="id", max_items=_MOST_IDS)] = None,
    status: FromQuery[list[Status] | None] = None,
    group: Text = None,
    name: Text = None,
    agent: Text = None,
    limit: Annotated[int, QueryParameter(ge=1, le=1000)] = 100,
    cursor: Annotated[str | None, QueryParameter(description="`next` of the page before.")] = None,
) -> TaskPage:
    """Tasks, newest first. `id` and `status` may be repeated; with `id` only `status` filters."""
    below = NO_CURSOR if cursor is None else below_cursor(cursor)
    if id_ and not 1 <= min(id_) <= max(id_) <= NO_CURSOR:
        raise ProblemError(HTTPStatus.BAD_REQUEST, f"id: numbers are 1 to {NO_CURSOR}")
    async with services(request).database.reading() as connection:
        if id_ is not None:
            named = await store.get_many(connection, id_)
            return TaskPage(
                tuple(task for task in named if status is None or task.status in status), None
            )
        ids = await store.list_ids(
            connection, below=below, status=status, group=group, name=name, agent=agent,
            limit=limit + 1,
        )  # fmt: skip
        tasks = await store.get_many(connection, ids[:limit])
    return TaskPage(tuple(tasks), str(ids[limit - 1]) if len(ids) > limit else None)


def below_cursor(cursor: str) -> int:
    """The number that a page's `next` names."""
    if not _CURSOR.fullmatch(cursor) or int(cursor) > NO_CURSOR:
        raise ProblemError(
            HTTPStatus.BAD_REQUEST, f"cursor {cursor!r}: hand back `next` of the page before"
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
    operation_class=body(Retry, {"after_attempt": 1}, required=False),
)
async def retry(request: Request[Any, Any, Any], task_id: TaskId) -> Task:
    """Run a finished task again, with all its attempts before it."""
    found = services(request)
    sent = await bodies.decoded(request, _retry, found.settings.max_body_bytes, without=Retry())
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
            f"the secrets of task {task_id} are not kept any more, since it has succeeded or ended"
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
