"""What the agent is told by its environment, read once."""

import re
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from agent.allowed import Allowed
from agent.amounts import SIZE, SIZE_OR_SHARE
from schema.claims import MAX_CLAIMED
from schema.reports import MAX_CHUNK_BYTES, MIN_LOG_BYTES
from schema.tasks import ISOLATION_LABEL, Image, Isolation, Label, Name

_SECRET = frozenset({"TOKEN"})
"""Never printed, and not in the environment of tasks."""
_SECRET_OF_THE_API = frozenset({
    "SUBMIT_TOKEN", "READ_TOKEN", "AGENT_TOKEN", "SECRETS_KEY", "SECRETS_KEY_FILE", "TLS_KEY",
    "DATABASE_URL", "PGPASSWORD", "PGPASSFILE",
})  # fmt: skip
"""Of one that is started from the same environment: not in that of tasks either. The last two are
what its database's driver takes where DATABASE_URL has no password."""

_LISTS = frozenset({"LABELS", "READABLE", "WRITABLE", "IMAGES", "ALLOW", "ALLOW_ENV"})

Seconds = Annotated[float, Meta(ge=0, le=31_536_000)]
Folder = Annotated[str, Meta(pattern=r"^/[^:\x00-\x1f]*$(?!\n)")]
Pattern = Annotated[str, Meta(min_length=1, max_length=1000)]


class SettingsError(ValueError):
    """A variable cannot be used; the text names it and says what to do."""


class Settings(Struct, frozen=True, kw_only=True, rename="upper"):
    """Each field is the environment variable of the same name in capitals."""

    api_url: str = "http://127.0.0.1:3000"
    """May have a path: `http://host/prefix`."""
    agent_name: Name = ""
    """For people; the host's name where it is not set."""
    labels: Annotated[tuple[Label, ...], Meta(max_length=250)] = ()
    """What this machine offers, separated by commas."""
    isolation: Isolation = "none"
    """What each task gets at least; one may ask for more."""
    network: Literal["none", "host"] = "host"
    """What isolated tasks have of it: nothing, or all that the machine has."""
    readable: Annotated[tuple[Folder, ...], Meta(max_length=100)] = ()
    """Files and folders that isolated tasks see besides the system's, and cannot change."""
    writable: Annotated[tuple[Folder, ...], Meta(max_length=100)] = ()
    """Those that they can change; devices, too."""
    image: Image | Literal[""] = ""
    """Of containers for tasks that name none."""
    images: Annotated[tuple[Pattern, ...], Meta(max_length=100)] = ()
    """Patterns of those that tasks may name. Without them and IMAGE there are no containers."""
    docker: Annotated[str, Meta(min_length=1)] = "docker"
    """The command line to run them with; `podman` is one, too."""
    allow: Annotated[tuple[Pattern, ...], Meta(max_length=100)] = ()
    """Patterns of the commands that are run at all: see `agent.allowed`."""
    allow_env: Annotated[tuple[Pattern, ...], Meta(max_length=100)] = ()
    """With ALLOW: the variables that tasks may bring."""
    keep_work: Literal["never", "failed"] = "never"
    """Whose work folders are kept."""
    min_disk_free: Annotated[str, Meta(pattern=SIZE_OR_SHARE)] = "0"
    """Under that no task is taken."""
    task_memory: Annotated[str, Meta(pattern=SIZE)] = "0"
    """Of one task, as the three below; 0: as much as it likes."""
    task_cpus: Annotated[float, Meta(ge=0, le=10_000)] = 0
    task_processes: Annotated[int, Meta(ge=0, le=4_000_000)] = 0
    """Threads count."""
    task_files: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 0
    """Open ones, of each of its processes."""
    token: Annotated[str, Meta(pattern=r"^[\x21-\x7e]*$")] = ""
    """Sent as `Authorization: Bearer`."""
    ca_file: str = ""
    """PEM file of the authorities to trust, instead of the system's."""
    state_dir: Annotated[str, Meta(min_length=1)] = ".agent"
    """The agent's own folder, used by one agent at a time."""
    flush_s: Annotated[float, Meta(ge=0.05, le=3600)] = 5
    """How long output may wait to be sent, until the API wishes otherwise."""
    chunk_bytes: Annotated[int, Meta(ge=1, le=MAX_CHUNK_BYTES)] = 524_288
    buffer_bytes: Annotated[int, Meta(ge=1)] = 48 * 1024 * 1024
    """Memory for chunks that wait to be sent; over half of it they go to the spool. When it is full
    tasks wait on their full pipes. Beside it each running task holds up to one unfinished chunk for
    each of its two streams."""
    max_log_bytes: Annotated[int, Meta(ge=MIN_LOG_BYTES)] | None = None
    """What the log of an attempt may hold, if that is less than what the API takes: the head as it
    comes, and the last MiB of each stream, which waits in memory."""
    spool_bytes: Annotated[int, Meta(ge=0)] = 1024 * 1024 * 1024
    """Files in the state folder for what waits for over a second: they outlive the agent. 0: none,
    what is unsent is lost with the agent."""
    kill_grace_s: Seconds = 10
    """Between SIGTERM and SIGKILL."""
    pipe_wait_s: Seconds = 5
    """How long a process left behind may keep a task's output open."""
    drain_s: Seconds = 0
    """How long running tasks may take to finish after SIGTERM; 0: as long as they need."""
    prefetch: Annotated[int, Meta(ge=0, le=MAX_CLAIMED)] | None = None
    """The most tasks claimed ahead of free slots while tasks are short; four for each slot if not
    set."""
    log_level: Literal["debug", "info", "warning"] = "info"


def read(environ: Mapping[str, str]) -> Settings:
    """Read settings; a variable that is empty counts as not set. SettingsError names a bad one."""
    values: dict[str, object] = {}
    for field in msgspec.structs.fields(Settings):
        variable = field.encode_name
        raw = environ.get(variable, "")
        if variable == "AGENT_NAME":
            raw = raw or socket.gethostname()
        if not raw:
            continue
        parts = [part.strip() for part in raw.split(",") if part.strip()]
        try:
            values[field.name] = msgspec.convert(
                parts if variable in _LISTS else raw, field.type, strict=False
            )
        except msgspec.ValidationError as error:
            shown = "(secret)" if variable in _SECRET else repr(raw)
            raise SettingsError(
                f"{variable}={shown} cannot be used: {error}. Change or unset it."
            ) from None
    settings = msgspec.structs.replace(Settings(), **values)
    _check_url(settings.api_url)
    _check_ca(settings.ca_file)
    _check_isolation(settings)
    return settings


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise SettingsError(
            f"API_URL={url!r} is not an address: write it as http://host:port or http://host/prefix"
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        # The address is printed, and tasks see it in their environment.
        raise SettingsError("API_URL must be an address only; put a secret in TOKEN")
    if "/t/dw_" in parts.path:
        raise SettingsError("API_URL contains a token, as for legacy agents: put it in TOKEN")


def _check_ca(file: str) -> None:
    try:
        if file:
            ssl.create_default_context(cafile=file)
    except OSError as error:  # ssl.SSLError too
        why = error.strerror or "it has no certificate in PEM"
        raise SettingsError(f"CA_FILE={file!r} cannot be used: {why}") from None


def _check_isolation(settings: Settings) -> None:
    for label in settings.labels:
        if label.startswith(ISOLATION_LABEL):
            raise SettingsError(
                f"LABELS has {label!r}: the agent announces isolation itself. Set ISOLATION to the "
                "minimum for every task."
            )
    if settings.isolation == "docker" and not settings.image:
        raise SettingsError("ISOLATION=docker needs IMAGE, for tasks that name none")
    try:
        Allowed(settings.allow, settings.allow_env)
    except re.error as error:
        raise SettingsError(
            f"ALLOW={','.join(settings.allow)!r} is not a pattern: {error}"
        ) from None
    state = Path(settings.state_dir).resolve()
    for name, paths in (("READABLE", settings.readable), ("WRITABLE", settings.writable)):
        for path in paths:
            real = Path(path).resolve()
            if state.is_relative_to(real) or real.is_relative_to(state):
                raise SettingsError(f"{name}={path!r} would show tasks STATE_DIR ({state})")


def task_environment(environ: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """Give what tasks inherit: all but what opens the API, its database, its secrets.

    Bytes, so that no spawn encodes it again.
    """
    hidden = {name.encode() for name in _SECRET | _SECRET_OF_THE_API}
    return {name: value for name, value in environ.items() if name not in hidden}
