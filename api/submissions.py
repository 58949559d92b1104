"""What the schema cannot say of a submission, or says too slowly: the regular expressions."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from http import HTTPStatus

from msgspec import UNSET

from api.problems import ProblemError
from schema.tasks import ISOLATION_LABEL, LABEL, MAX_COMMAND_BYTES, MAX_ENV_BYTES, Submission

_is_label = re.compile(LABEL).search
_NEEDS_BYTES = 2000  # an entry of the index that finds a lane has room for 2,700


def check(task: Submission, where: str) -> None:
    """400 that names what is wrong with the task at that place of the body."""
    if wrong := _wrong_time(task.run_after):
        raise _problem(f"run_after {wrong}", f"{where}.run_after")
    check_labels(task.needs, f"{where}.needs")
    for label in task.needs:
        if label.startswith(ISOLATION_LABEL):
            raise _problem(
                f"{label!r} is reserved for agents; use the field `isolation`",
                f"{where}.needs",
            )
    if (size := sum(len(label.encode()) for label in task.needs)) > _NEEDS_BYTES:
        raise _problem(
            f"labels of {size} bytes in total, the limit is {_NEEDS_BYTES}", f"{where}.needs"
        )
    if wrong := _wrong_isolation(task):
        raise _problem(wrong, f"{where}.isolation")
    if task.env and (wrong := _wrong_env(task.env)):
        raise _problem(wrong, f"{where}.env")
    if task.hidden and (wrong := _wrong_env(task.hidden)):
        raise _problem(wrong, f"{where}.secrets")
    if (size := len(task.command.encode())) > MAX_COMMAND_BYTES:
        raise _problem(
            f"a command of {size} bytes, the limit is {MAX_COMMAND_BYTES}:"
            " put a long script in a file",
            f"{where}.command",
        )


def check_labels(labels: Iterable[str], where: str) -> None:
    """400 that names the first one that is none."""
    for label in labels:
        if not _is_label(label):
            raise _problem(
                f"{label!r} is not a label: it contains a space, a comma or a NUL", where
            )


def _problem(what: str, where: str) -> ProblemError:
    return ProblemError(HTTPStatus.BAD_REQUEST, f"the body: {what} - at `{where}`")


def _wrong_isolation(task: Submission) -> str | None:
    if task.image and task.isolation not in {UNSET, None, "docker"}:
        return f"an image needs a container, but isolation is {task.isolation!r}"
    return None


def _wrong_env(env: Mapping[str, str]) -> str | None:
    together = 0
    for name, value in env.items():
        if "=" in name or "\0" in name or "\0" in value:
            return f"variable {name!r} contains a NUL, or = in its name"
        size = len(name.encode()) + len(value.encode()) + 1
        if size > MAX_COMMAND_BYTES:
            return f"a variable of {size} bytes, the limit is {MAX_COMMAND_BYTES}: {name!r}"
        together += size
    if together > MAX_ENV_BYTES:
        return f"variables of {together} bytes in total, the limit is {MAX_ENV_BYTES}"
    return None


def _wrong_time(run_after: datetime | None) -> str | None:
    if run_after is None:
        return None
    if run_after.tzinfo is None:
        return "needs a UTC offset, such as Z"
    try:
        run_after.astimezone(UTC)
    except OverflowError:
        return "is outside the years 1 to 9999 in UTC"
    return None
