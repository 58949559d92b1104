"""What can go wrong between a client and the server.

```
DwError
├── UnreachableError      no answer for as long as it was tried      .url .cause
├── BrokenOffError        a log that stopped in the middle           .url .received
├── BadAuthoritiesError   CA_FILE is no file of certificates
├── UnreadableError       an answer, but not of this API             .url .status .what
├── StillRunningError     a wait that took longer than it might      .unfinished
└── RefusedError          the server said no                         .problem
    ├── DeniedError       401, 403: a token is missing or wrong
    ├── NotFoundError     404: no such task, group or attempt
    ├── ConflictError     409: a key used with another body, a retry of a task that runs
    └── BusyError         429, 502, 503, 504, for as long as it was tried
```

`RETRIED` is the one table of what is tried again.
"""

from schema.problems import Problem


class DwError(Exception):
    """Everything that this package raises on purpose."""

    exit_code = 2
    """What `dw` ends with: see `client.outcome`."""


class BadAuthoritiesError(DwError):
    """The authorities to trust cannot be read."""

    def __init__(self, file: str, why: str | None) -> None:
        super().__init__(f"CA_FILE={file} cannot be used: {why or 'it has no certificate in PEM'}")


class UnreachableError(DwError):
    """No answer at all."""

    exit_code = 5

    def __init__(self, url: str, cause: BaseException) -> None:
        self.url = url
        self.cause = cause
        super().__init__(f"cannot reach {url} ({describe(cause)})")


class BrokenOffError(DwError):
    """The connection ended inside a log that cannot be resumed."""

    exit_code = 5

    def __init__(self, url: str, received: int) -> None:
        self.url = url
        self.received = received
        super().__init__(f"{url} was cut off after {received:,} bytes: try again")


class UnreadableError(DwError):
    """Something answered that is not this API, or an API newer than this client."""

    def __init__(self, url: str, status: int, what: str) -> None:
        self.url = url
        self.status = status
        self.what = what
        answered = f"answered {status} with something unexpected: " if status else ""
        super().__init__(f"{url} {answered}{what}")


class StillRunningError(DwError):
    """Not every task, or not every agent, has ended."""

    exit_code = 6

    def __init__(self, unfinished: int, noun: str) -> None:
        self.unfinished = unfinished
        nouns = f"{noun} has" if unfinished == 1 else f"{noun}s have"
        super().__init__(f"{unfinished:,} {nouns} not ended yet")


class RefusedError(DwError):
    """The server answered with a problem."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(problem.detail or problem.title)


class DeniedError(RefusedError):
    """401 or 403."""


class NotFoundError(RefusedError):
    """404."""


class ConflictError(RefusedError):
    """409."""


class BusyError(RefusedError):
    """The server, or a proxy before it, cannot answer now."""

    exit_code = 5


BY_STATUS: dict[int, type[RefusedError]] = {
    401: DeniedError,
    403: DeniedError,
    404: NotFoundError,
    409: ConflictError,
    429: BusyError,
    502: BusyError,
    503: BusyError,
    504: BusyError,
}

RETRIED: tuple[type[DwError], ...] = (UnreachableError, BusyError)
"""Every request may be sent twice: submissions carry keys, a retry names the attempt before it."""


def refusal(problem: Problem) -> RefusedError:
    """Make the error for a problem, by its status."""
    return BY_STATUS.get(problem.status, RefusedError)(problem)


def describe(error: BaseException) -> str:
    """Name a cause for people, in the system's own words where there are some."""
    inner = getattr(error, "os_error", error)
    text = getattr(inner, "strerror", None) or str(inner) or type(inner).__name__
    # asyncio writes "Connect call failed ('127.0.0.1', 3000)" into strerror of what it wraps.
    return "connection refused" if isinstance(inner, ConnectionRefusedError) else text


def first_of(errors: BaseExceptionGroup) -> BaseException:
    """Unwrap what went wrong in a TaskGroup, however deep: `dw` tells one thing."""
    first = errors.exceptions[0]
    return first_of(first) if isinstance(first, BaseExceptionGroup) else first
