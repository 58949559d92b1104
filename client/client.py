"""The client: one method for each route that people use.

```python
async with Client("http://127.0.0.1:3000") as dw:
    [task] = await dw.submit([Submission(command="make test")])
    done = await dw.wait([task.id])
    async with dw.logs(task.id) as log:
        async for piece in log:
            ...
```

Everything raised on purpose is a `client.errors.DwError`. Requests that fail on the way, or meet
a busy server, are sent again for a bounded time; nothing happens twice by that.
"""

from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Collection,
    Iterable,
    Sequence,
)
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import quote

import msgspec

from client import live
from client.errors import DwError, UnreadableError
from client.handing import bodies
from client.live import LiveEvent
from client.logs import ALL_LINES, Lines, Log
from client.settings import DEFAULT_URL
from client.transport import Params, Patience, Transport
from client.waiting import Progress, Waited, wait, wait_drained
from schema.audit import AuditPage
from schema.explain import Explanation
from schema.logs import LogPage
from schema.queue import Queue
from schema.sessions import Agent, DrainAsked
from schema.tasks import (
    FinalStatus,
    Group,
    GroupCancelled,
    GroupPage,
    GroupRetried,
    GroupRetry,
    Retry,
    Status,
    Stream,
    Submission,
    Submitted,
    Task,
    TaskPage,
)
from schema.tokens import Role, Token, TokenMade, TokenNew

T = TypeVar("T")


class Client:
    """Speaks to one server. Use it as an async context manager, in one event loop."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        token: str | None = None,
        *,
        ca_file: str | None = None,
        patience: Patience | None = None,
        notice: Callable[[DwError, float], None] | None = None,
    ) -> None:
        """`notice` hears of an outage: its first failure, and the seconds to keep trying.

        `ca_file`: PEM file of the authorities to trust, instead of the system's.
        """
        self.url = url.rstrip("/")
        self._token = token
        self._ca_file = ca_file
        self._patience = patience or Patience()
        self._notice = notice

    async def __aenter__(self) -> Self:
        self._http = Transport(self.url, self._token, self._patience, self._notice, self._ca_file)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._http.close()

    async def submit(self, tasks: Sequence[Submission]) -> list[Submitted]:
        """Submit any number of tasks; the answers are in the same order.

        Those without a `key` are given one, so that a lost reply doubles nothing. Over 10,000
        tasks or 4 MiB go in several requests: where a later one is refused, the earlier stand.
        """
        answers: list[Submitted] = []
        for body in bodies(tasks):
            reply = await self._http.request("POST", "/tasks", body=body)
            answers += self._decode(reply, list[Submitted])
        return answers

    async def task(self, task_id: int) -> Task:
        """One task, with its logs' sizes and earlier attempts; NotFoundError."""
        return self._decode(await self._http.request("GET", f"/tasks/{task_id}"), Task)

    async def tasks(
        self,
        *,
        ids: Iterable[int] = (),
        status: Iterable[Status] = (),
        group: str | None = None,
        name: str | None = None,
        agent: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> TaskPage:
        """Tasks that fit all filters, newest first; at most a few hundred `ids` (one address)."""
        params = [("id", str(one)) for one in ids] + [("status", one) for one in status]
        params += _given(group=group, name=name, agent=agent, limit=limit, cursor=cursor)
        return self._decode(await self._http.request("GET", "/tasks", params), TaskPage)

    @asynccontextmanager
    async def logs(
        self,
        task_id: int,
        *,
        stream: Stream | None = None,
        attempt: int | None = None,
        offset: int | None = None,
        lines: Lines = ALL_LINES,
    ) -> AsyncIterator[Log]:
        """Read one stream, or both in the order of their arrival.

        `attempt` is the newest unless given; `offset` counts bytes and needs a `stream`.
        NotFoundError; BrokenOffError where the connection ends inside.
        """
        params = _given(stream=stream, attempt=attempt, offset=offset, **lines.params())
        path = f"/tasks/{task_id}/logs"
        async with self._http.stream(path, params) as reply:
            yield Log(reply, f"{self.url}{path}")

    async def log_page(
        self,
        task_id: int,
        *,
        stream: Stream | None = None,
        attempt: int | None = None,
        lines: Lines = ALL_LINES,
        most: int | None = None,
    ) -> LogPage:
        """Read at most so many lines, with their numbers and times; NotFoundError.

        From `lines.line` on, or with `lines.tail` that many at the end.
        """
        params = lines.params() | {"numbers": None, "timestamps": None, "lines": most}
        if lines.tail is not None:
            params |= {"tail": "true", "lines": lines.tail}
        path = f"/tasks/{task_id}/logs/lines"
        reply = await self._http.request(
            "GET", path, _given(stream=stream, attempt=attempt, **params)
        )
        return self._decode(reply, LogPage)

    @asynccontextmanager
    async def group_logs(
        self, name: str, *, stream: Stream | None = None, lines: Lines = ALL_LINES
    ) -> AsyncIterator[Log]:
        """Read the logs of all tasks of a group, as `task:line:text`. NotFoundError."""
        path = f"{_of_group(name)}/logs"
        params = _given(stream=stream, **lines.params())
        async with self._http.stream(path, params) as reply:
            yield Log(reply, f"{self.url}{path}")

    def live(
        self, task_id: int, *, stream: Stream | None = None, tail: int | None = None
    ) -> AsyncGenerator[LiveEvent, None]:
        """What a task writes and becomes, until it has ended: see `client.live`. Close it.

        From its newest attempt's first byte on, or its last lines. NotFoundError.
        """
        params = _given(stream=stream, tail=tail)
        return live.events(self._http, f"/tasks/{task_id}/logs/live", params, last="end")

    def live_group(
        self, name: str, *, stream: Stream | None = None, tail: int | None = None
    ) -> AsyncGenerator[LiveEvent, None]:
        """What all tasks of a group write and become, until all have ended. Close it.

        With `tail`, tasks that have ended are left out. NotFoundError.
        """
        path = f"{_of_group(name)}/logs/live"
        return live.events(self._http, path, _given(stream=stream, tail=tail), last="done")

    async def explain(self, task_id: int) -> Explanation:
        """Why a task is still pending, or what it does instead; NotFoundError."""
        body = await self._http.request("GET", f"/tasks/{task_id}/explain")
        return self._decode(body, Explanation)

    async def cancel(self, task_id: int) -> Task:
        """Ask that a task ends. One that runs ends when its agent has ended it; NotFoundError."""
        return self._decode(await self._http.request("POST", f"/tasks/{task_id}/cancel"), Task)

    async def retry(self, task_id: int, after_attempt: int | None = None) -> Task:
        """Run a finished task once more, after the attempt that is its newest now.

        NotFoundError; ConflictError while it runs, or where `after_attempt` is not its newest.
        """
        if after_attempt is None:
            after_attempt = (await self.task(task_id)).attempt
        body = msgspec.json.encode(Retry(after_attempt))
        return self._decode(
            await self._http.request("POST", f"/tasks/{task_id}/retry", body=body), Task
        )

    async def groups(
        self, *, contains: str | None = None, limit: int | None = None, cursor: str | None = None
    ) -> GroupPage:
        """Groups with their counts, newest first; `contains`: in the name, in whatever case."""
        params = _given(contains=contains, limit=limit, cursor=cursor)
        return self._decode(await self._http.request("GET", "/groups", params), GroupPage)

    async def group(self, name: str, *, slowest: int | None = None) -> Group:
        """How far the tasks of a group are; NotFoundError where it has none.

        `slowest`: also so many tasks that run, or ran, the longest.
        """
        reply = await self._http.request("GET", _of_group(name), _given(slowest=slowest))
        return self._decode(reply, Group)

    async def cancel_group(self, name: str) -> GroupCancelled:
        """Ask that all tasks of a group end; NotFoundError."""
        return self._decode(
            await self._http.request("POST", f"{_of_group(name)}/cancel"), GroupCancelled
        )

    async def retry_group(
        self, name: str, status: Sequence[FinalStatus] = ("failed",)
    ) -> GroupRetried:
        """Run those tasks of a group once more that have ended so by now; NotFoundError."""
        now = (await self.group(name)).counted_at
        body = msgspec.json.encode(GroupRetry(tuple(status), now))
        return self._decode(
            await self._http.request("POST", f"{_of_group(name)}/retry", body=body), GroupRetried
        )

    async def queue(self) -> Queue:
        """How much waits, and for what kind of agent."""
        return self._decode(await self._http.request("GET", "/queue"), Queue)

    async def metrics(self) -> str:
        """Counters of the machine that answers, in Prometheus' text form."""
        return (await self._http.request("GET", "/metrics")).decode(errors="replace")

    async def agents(self, *, ended: bool = False, name: str | None = None) -> list[Agent]:
        """Agents that live, of that name if one is given; also those that have ended."""
        params = _given(ended="true" if ended else None, name=name)
        return self._decode(await self._http.request("GET", "/agents", params), list[Agent])

    async def drain(self, name: str) -> DrainAsked:
        """Ask all live agents of that name to finish what they run, and to end; NotFoundError."""
        # A slash would part the path, even encoded once.
        path = f"/agents/{quote(name.replace('/', '%2F'), safe='')}/drain"
        return self._decode(await self._http.request("POST", path), DrainAsked)

    async def drained(
        self,
        name: str,
        *,
        seen: Callable[[int, int], None] | None = None,
        at_most_s: float | None = None,
    ) -> None:
        """Until no agent of that name drains any more: all have ended.

        `seen` hears, at every look, how many still live and how many tasks they run.
        StillRunningError after `at_most_s` seconds.
        """
        await wait_drained(self, name, seen, at_most_s)

    async def make_token(self, name: str, role: Role) -> TokenMade:
        """Make a token, which is told this once.

        ConflictError where the name is taken: also after a reply that was lost on the way.
        """
        body = msgspec.json.encode(TokenNew(role=role, name=name))
        return self._decode(await self._http.request("POST", "/tokens", body=body), TokenMade)

    async def tokens(self, *, revoked: bool = False) -> list[Token]:
        """Tokens that live; also those that were revoked."""
        params = _given(revoked="true" if revoked else None)
        return self._decode(await self._http.request("GET", "/tokens", params), list[Token])

    async def revoke_token(self, name: str) -> Token:
        """Let it do nothing any more; NotFoundError, ConflictError for the last admin's."""
        path = f"/tokens/{quote(name, safe='')}/revoke"
        return self._decode(await self._http.request("POST", path), Token)

    async def audit(self, *, limit: int | None = None, cursor: str | None = None) -> AuditPage:
        """What people did, newest first."""
        params = _given(limit=limit, cursor=cursor)
        return self._decode(await self._http.request("GET", "/audit", params), AuditPage)

    async def wait(
        self,
        ids: Collection[int] = (),
        *,
        group: str | None = None,
        seen: Callable[[Progress], None] | None = None,
        at_most_s: float | None = None,
    ) -> Waited:
        """Until every one of these tasks, or of that group, has ended.

        With both, the ids count; a group that holds just these tasks makes waiting cheaper.
        `seen` hears of every look. NotFoundError; StillRunningError after `at_most_s` seconds.
        """
        return await wait(self, ids, group, seen, at_most_s)

    def _decode(self, body: bytes, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(body, type=kind)
        except msgspec.DecodeError as error:
            raise UnreadableError(self.url, 200, str(error)) from error


def _of_group(name: str) -> str:
    return f"/groups/{quote(name, safe='')}"


def _given(**params: str | int | None) -> Params:
    return [(name, str(value)) for name, value in params.items() if value is not None]
