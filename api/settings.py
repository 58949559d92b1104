"""Settings of the API, read once from the environment."""

import os
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct, field

from schema.reports import MIN_LOG_BYTES
from schema.tokens import Role

Secret = Annotated[str, Meta(min_length=16)]

_ROLES: dict[str, Role] = {
    "token": "admin",
    "submit_token": "submit",
    "read_token": "read",
    "agent_token": "agent",
}


class SettingsError(Exception):
    """A variable of the environment has a value that cannot be used."""


def _cores() -> int:
    return len(os.sched_getaffinity(0))


class Settings(Struct, frozen=True, kw_only=True):
    """One field for each variable, which is its name in capitals."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65535)] = 3000
    workers: Annotated[int, Meta(ge=1, le=256)] = field(default_factory=_cores)
    """Processes that share the port."""
    data_dir: str = ".data"
    """The embedded PostgreSQL and its log, and the workers' metrics."""
    database_url: str | None = None
    """PostgreSQL 15 or newer; the embedded one when it is not set."""
    token: Secret | None = None
    """An admin's token. The four of these are for simple installs: others are made by an admin, and
    live in the database. Requests bring them as `Authorization: Bearer …`."""
    submit_token: Secret | None = None
    read_token: Secret | None = None
    agent_token: Secret | None = None
    secrets_key: str | None = None
    """Keys that seal tasks' secrets, each 32 random bytes in base64 or hex, separated by commas:
    the first one seals, all open. Without one, submissions with secrets are refused."""
    secrets_key_file: str | None = None
    """A file with such keys, after those of `secrets_key`."""
    tls_cert: str | None = None
    """PEM file: the server's certificate and those between it and its authority's."""
    tls_key: str | None = None
    """PEM file of the private key."""
    pool_size: Annotated[int, Meta(ge=4, le=100)] = 8
    """Database connections of one worker, besides two; a third is for what people look at."""
    lease_s: Annotated[float, Meta(ge=1, le=3600)] = 60
    """An agent that is silent for longer is dead, and its tasks run again."""
    reaper_s: Annotated[float, Meta(gt=0, le=60)] = 2
    """Pause between two looks for dead sessions."""
    pulled_silence_s: Annotated[float, Meta(ge=1)] = 3600
    """A task taken by the compatible `/tasks/pull` whose log is silent for longer is lost."""
    crash_limit: Annotated[int, Meta(ge=1, le=100)] = 5
    """How many attempts machines may lose before the task fails as `agent_lost`."""
    max_body_bytes: Annotated[int, Meta(ge=1024)] = 16 * 1024 * 1024
    """Of one request, as received and after its own Content-Encoding."""
    max_small_body_bytes: Annotated[int, Meta(ge=1024)] = 1024 * 1024
    """The same of a request that brings neither tasks nor logs."""
    max_json_values: Annotated[int, Meta(ge=1000)] = 500_000
    """In one body, counted by commas, brackets and braces: to decode them keeps all others waiting
    for some 0.1 s."""
    max_tasks: Annotated[int, Meta(ge=1, le=100_000)] = 10_000
    """Of one submission."""
    max_header_bytes: Annotated[int, Meta(ge=8192, le=1024 * 1024)] = 65_536
    """Of a request's line and headers, and of what is read ahead on one connection."""
    header_s: Annotated[float, Meta(ge=0.1, le=60)] = 30
    """For a request's line and headers, and until the next request of a connection."""
    body_s: Annotated[float, Meta(gt=0, le=3600)] = 120
    """For the whole of a body: as long as agents take."""
    body_pause_s: Annotated[float, Meta(gt=0, le=3600)] = 10
    """Between two pieces of a body."""
    inflate_s: Annotated[float, Meta(gt=0, le=600)] = 2
    """Of a processor's time, for all gzip of one request."""
    max_bodies_bytes: Annotated[int, Meta(ge=1024)] = 256 * 1024 * 1024
    """Of all requests over 64 KiB that one worker works on; beyond it senders are told to wait."""
    max_queue_bytes: Annotated[int, Meta(ge=1024)] = 64 * 1024 * 1024
    """Reports that wait for the database in one worker; beyond it agents are told to wait."""
    max_requests: Annotated[int, Meta(ge=1)] = 20_000
    """Under way in one worker, parked ones too; the server takes as many connections."""
    max_parked: Annotated[int, Meta(ge=1)] = 20_000
    """Claims and beats of one token that wait in one worker."""
    max_log_bytes: Annotated[int, Meta(ge=MIN_LOG_BYTES)] = 1024 * 1024 * 1024
    """What the log of an attempt may hold: agents drop what is in the middle, and of what others
    send no more is stored."""
    max_log_reads: Annotated[int, Meta(ge=1)] = 100
    """Logs that one token reads at the same time from one worker: each holds some 10 MB, for as
    long as its reader takes."""
    submissions_per_minute: Annotated[int, Meta(ge=0)] = 0
    """Of one token, everywhere; 0: as many as it likes."""
    max_lanes: Annotated[int, Meta(ge=1, le=100_000)] = 1000
    """Distinct sets of needs."""
    max_viewers: Annotated[int, Meta(ge=1, le=100_000)] = 2000
    """Of live logs, in one worker; each holds up to a MiB if it does not read."""
    max_viewers_per_token: Annotated[int, Meta(ge=1)] = 1000
    """Of one token, in one worker."""
    log_days: Annotated[int, Meta(ge=1, le=3650)] = 30
    """Days that logs are kept."""
    audit_days: Annotated[int, Meta(ge=1, le=36_500)] = 365
    """Days that the audit is kept."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> "Settings":
        """Read the environment; SettingsError names the variable and what it may be."""
        given = {
            name: environ[name.upper()]
            for name in cls.__struct_fields__
            if environ.get(name.upper())
        }
        try:
            settings = msgspec.convert(given, cls, strict=False)
        except msgspec.ValidationError as error:
            what, _, where = str(error).partition(" - at `$.")
            name = where.rstrip("`")
            shown = "(secret)" if name in _ROLES or name == "secrets_key" else repr(given.get(name))
            raise SettingsError(f"{name.upper()}={shown}: {what}") from None
        tokens = settings.tokens
        if len({token for _, token in tokens.values()}) < len(tokens):
            raise SettingsError(f"{' and '.join(tokens)}: each role needs a token of its own")
        if (settings.tls_cert is None) != (settings.tls_key is None):
            raise SettingsError("TLS_CERT and TLS_KEY: set both or neither")
        return settings

    @property
    def tokens(self) -> dict[str, tuple[Role, str]]:
        """Tokens of the environment, by their variables."""
        found = ((name, role, getattr(self, name)) for name, role in _ROLES.items())
        return {name.upper(): (role, token) for name, role, token in found if token is not None}

    @property
    def loopback(self) -> bool:
        """Whether only this machine can connect."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:  # a name, which may stand for any address
            return self.host == "localhost"
