"""What people write on a command line or in a file, as submissions: pure."""

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from schema.tasks import Submission

_UNITS_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


class BadInputError(ValueError):
    """What was written cannot be meant; the text says where and why."""


def command_line(words: Sequence[str]) -> str:
    """One word is a shell line as it is; several are quoted, so that each stays one word."""
    return words[0] if len(words) == 1 else shlex.join(words)


def seconds(text: str) -> float:
    """Read `90`, `30s`, `1.5h` or `1h30m`; BadInputError."""
    text = text.strip().lower()
    try:
        value = float(text)
    except ValueError:
        parts = _PART.findall(text)
        if not parts or "".join(number + unit for number, unit in parts) != text:
            raise BadInputError(
                f"{text!r} is not a duration: write 90, 30s, 5m, 2h, 1h30m"
            ) from None
        value = sum(float(number) * _UNITS_S[unit] for number, unit in parts)
    if not 0 < value < float("inf"):
        raise BadInputError(f"{text!r} is not a duration: it must be over 0")
    return value


def moment(text: str, now: datetime) -> datetime:
    """Read a time like `2026-12-24T18:00+01:00`, or a duration from `now` on; BadInputError.

    A time without an offset is local to `now`'s zone.
    """
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        try:
            return now + timedelta(seconds=seconds(text.removeprefix("+")))
        except BadInputError:
            raise BadInputError(
                f"{text!r} is not a time: write 2026-12-24T18:00+01:00, or 10m for in ten minutes"
            ) from None
    return when if when.tzinfo is not None else when.replace(tzinfo=now.tzinfo)


def variables(words: Iterable[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Read `K=V`, and `K` alone as the value that it has here; BadInputError."""
    env: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not name:
            raise BadInputError(f"--env {word!r} has no name: write K=V")
        if not equals:
            if name not in environ:
                raise BadInputError(f"--env {name}: it is not set in your environment; write K=V")
            value = environ[name]
        env[name] = value
    return env


def secret_variables(
    words: Iterable[str], environ: Mapping[str, str], stdin: Callable[[], str]
) -> dict[str, str]:
    """Read `K` as the value that it has here, `K=@FILE`, and `K=-` from stdin; BadInputError.

    A file of one line comes without its newline, one with several as it is.
    """
    secrets: dict[str, str] = {}
    for word in words:
        name, equals, source = word.partition("=")
        if not name:
            raise BadInputError(f"--secret {word!r} has no name: write K, K=@FILE or K=-")
        if not equals:
            if name not in environ:
                raise BadInputError(
                    f"--secret {name}: there is no such variable here; set it, or write"
                    f" {name}=@FILE or {name}=- for stdin"
                )
            secrets[name] = environ[name]
        elif source == "-":
            secrets[name] = _one_line(stdin())
        elif source.startswith("@"):
            secrets[name] = _one_line(_text_of(name, Path(source[1:])))
        else:
            # Not even in the error: it is in the shell's history already.
            raise BadInputError(
                f"--secret {name}=…: all users of a machine see its command lines; write {name} for"
                f" a variable's value, {name}=@FILE, or {name}=- for stdin"
            )
    return secrets


def _text_of(name: str, file: Path) -> str:
    try:
        return file.read_bytes().decode()
    except OSError as error:
        raise BadInputError(f"--secret {name}: {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadInputError(f"--secret {name}: {file} is not UTF-8 text") from None


def _one_line(text: str) -> str:
    line = text.removesuffix("\n").removesuffix("\r")
    return text if "\n" in line else line


def from_command(command: str, defaults: Mapping[str, Any]) -> Submission:
    """Make a submission of one command; BadInputError."""
    return _checked({**defaults, "command": command})


def from_lines(lines: Iterable[str], defaults: Mapping[str, Any]) -> Iterator[Submission]:
    """One submission a line: a shell line, or a JSON object with the fields of a submission.

    Blank lines and those that start with `#` are skipped. A line's own fields win over the
    defaults, also single variables of `env` and `secrets`. BadInputError names the line.
    """
    for number, raw in enumerate(lines, start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        try:
            yield _from_line(line, defaults)
        except BadInputError as error:
            raise BadInputError(f"line {number}: {error}") from None


def _from_line(line: str, defaults: Mapping[str, Any]) -> Submission:
    if not line.startswith("{"):
        return from_command(line, defaults)
    try:
        fields = msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise BadInputError(
            f"{error} (a line that starts with {{ must be a JSON object; "
            "for a shell group write: true; { …; })"
        ) from None
    for each in ("env", "secrets"):
        if isinstance(own := fields.get(each), dict) and each in defaults:
            fields[each] = {**defaults[each], **own}
    return _checked({**defaults, **fields})


def _checked(fields: Mapping[str, Any]) -> Submission:
    try:
        task = msgspec.convert(fields, Submission)
        msgspec.json.encode(task)
    except msgspec.ValidationError as error:
        raise BadInputError(str(error)) from None
    except UnicodeEncodeError:
        # Bytes of a command line that are no text stand in Python's strings as lone surrogates.
        raise BadInputError("only UTF-8 text can be sent") from None
    return task


def numbered_keys(tasks: Sequence[Submission], key: str | None) -> list[Submission]:
    """Many tasks under one key: `key.1`, `key.2`, … A task's own key stays."""
    if key is None or len(tasks) == 1:
        return [_with_key(task, key) for task in tasks]
    return [_with_key(task, f"{key}.{number}") for number, task in enumerate(tasks, start=1)]


def _with_key(task: Submission, key: str | None) -> Submission:
    return task if task.key is not None else msgspec.structs.replace(task, key=key)
