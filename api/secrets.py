"""What may be a secret of a task."""

from http import HTTPStatus

from api.problems import ProblemError
from api.sealing import HOW_TO_SET, Seals
from schema.tasks import MAX_SECRET_BYTES, MAX_SECRET_LINES, MIN_SECRET_CHARS, Submission


def check_secrets(task: Submission, where: str, seals: Seals | None) -> None:
    """Refuse what could not be kept secret; problems name variables, never values."""
    if not task.hidden:
        return
    if seals is None:
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            f"this server has no key to keep secrets with: {HOW_TO_SET} - at `{where}.secrets`",
        )
    size = lines = 0
    for name, value in task.hidden.items():
        if name in task.env:
            raise _refused(f"{name} is in `env` too", f"{where}.secrets.{name}")
        if len(value.strip()) < MIN_SECRET_CHARS:
            raise _refused(
                f"fewer than {MIN_SECRET_CHARS} characters besides spaces appear in any log by"
                " chance, and cannot be redacted: put them into `env`",
                f"{where}.secrets.{name}",
            )
        size += len(value.encode())
        lines += value.count("\n") + 1
    if size > MAX_SECRET_BYTES:
        raise _refused(
            f"{size} bytes of secrets, a task may have {MAX_SECRET_BYTES}", f"{where}.secrets"
        )
    if lines > MAX_SECRET_LINES:
        raise _refused(
            f"{lines} lines of secrets, a task may have {MAX_SECRET_LINES}: base64 makes one line"
            " of many",
            f"{where}.secrets",
        )


def _refused(why: str, where: str) -> ProblemError:
    return ProblemError(HTTPStatus.BAD_REQUEST, f"the body: {why} - at `{where}`")
