"""The client's promises: nothing is done twice, errors carry data, outages are sat out."""

import asyncio

import msgspec
import pytest
from aiohttp import web

from client.client import Client
from client.errors import (
    BrokenOffError,
    BusyError,
    ConflictError,
    DeniedError,
    DwError,
    NotFoundError,
    RefusedError,
    UnreachableError,
    UnreadableError,
)
from client.handing import BODY_BYTES
from client.transport import Patience, backoff_s, retry_after_s
from schema.tasks import Submission
from tests.client.fake import Fake, problem


async def test_a_lost_reply_doubles_nothing(fake: Fake, dw: Client) -> None:
    """The server committed, the connection died before the answer: the key finds the task."""

    async def commit_then_cut(request: web.Request) -> None:
        for one in msgspec.json.decode(await request.read(), type=list[Submission]):
            assert one.key is not None
            fake.keys[one.key] = fake.add(command=one.command, key=one.key).id
        assert request.transport is not None
        request.transport.abort()

    fake.faults.append(commit_then_cut)
    done = await dw.submit([Submission(command="a"), Submission(command="b")])
    assert [one.id for one in done] == [1, 2]
    assert [one.created for one in done] == [False, False]
    assert len(fake.tasks) == 2
    assert fake.count("POST /tasks") == 2


async def test_an_outage_that_several_requests_meet_is_told_once(fake: Fake) -> None:
    """Of ten that were under way, ten lines would tell one thing; the next outage is another."""

    async def busy(_: web.Request) -> web.Response:
        return problem(503, "Service Unavailable", "come back")

    heard: list[DwError] = []
    async with Client(fake.url, notice=lambda error, _: heard.append(error)) as dw:
        for outages in (1, 2):
            fake.faults += [busy] * 8
            async with asyncio.TaskGroup() as group:
                for _ in range(4):
                    group.create_task(dw.agents())
            assert len(heard) == outages


async def test_many_tasks_go_in_several_requests_and_answers_keep_their_order(
    fake: Fake, dw: Client
) -> None:
    """The server bounds what it takes at once: by count, and by bytes."""
    done = await dw.submit([Submission(command="true")] * 10_001)
    assert [one.id for one in done] == list(range(1, 10_002))
    assert fake.count("POST /tasks") == 2
    fake.seen.clear()
    big = Submission(command="x" * 100_000)
    count = BODY_BYTES // 100_000
    await dw.submit([big] * (count + 1))
    assert fake.count("POST /tasks") == 2


async def test_no_tasks_ask_nothing(fake: Fake, dw: Client) -> None:
    """An empty list is no error and no request."""
    assert await dw.submit([]) == []
    assert fake.seen == []


async def test_a_key_of_its_own_is_kept(fake: Fake, dw: Client) -> None:
    """People's keys outlive this process; made up ones must not replace them."""
    await dw.submit([Submission(command="a", key="mine"), Submission(command="b")])
    assert fake.tasks[1].key == "mine"
    assert fake.tasks[2].key not in (None, "mine")


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_a_busy_server_is_asked_again(fake: Fake, dw: Client, status: int) -> None:
    """Busy passes; the caller need not know."""
    fake.add()

    async def busy(_: web.Request) -> web.Response:
        return problem(status, "Busy", retry_after=0.01)

    fake.faults += [busy, busy]
    assert (await dw.task(1)).id == 1
    assert len(fake.seen) == 3


async def test_a_wish_longer_than_patience_ends_it_at_once(fake: Fake, dw: Client) -> None:
    """Nobody sits out an hour; the error tells how long the server asked for."""

    async def busy(_: web.Request) -> web.Response:
        return web.Response(status=503, headers={"Retry-After": "3600"}, text="gone fishing")

    fake.faults.append(busy)
    with pytest.raises(BusyError) as caught:
        await dw.task(1)
    assert caught.value.problem.retry_after == 3600
    assert caught.value.problem.detail == "503 Service Unavailable: gone fishing"
    assert len(fake.seen) == 1


async def test_nobody_listens() -> None:
    """The error names the address, and the notice comes once, before the trying."""
    heard: list[DwError] = []
    patience = Patience(0.2, 0.2)
    nobody = Client(
        "http://127.0.0.1:9", patience=patience, notice=lambda error, _: heard.append(error)
    )
    async with nobody as dw:
        with pytest.raises(UnreachableError, match=r"http://127.0.0.1:9 \(connection refused\)"):
            await dw.task(1)
    assert len(heard) == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, DeniedError), (404, NotFoundError), (409, ConflictError), (400, RefusedError)],
)
async def test_problems_become_errors(
    fake: Fake, dw: Client, status: int, kind: type[RefusedError]
) -> None:
    """By status, with the whole problem, and without asking again."""

    async def refuse(_: web.Request) -> web.Response:
        return problem(status, "No", "because")

    fake.faults.append(refuse)
    with pytest.raises(kind, match=r"^because$") as caught:
        await dw.task(1)
    assert type(caught.value) is kind
    assert caught.value.problem.status == status
    assert len(fake.seen) == 1


async def test_another_server_is_told_from_this_api(fake: Fake, dw: Client) -> None:
    """API_URL may name a web site: the error must not be a decoder's."""

    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<html>welcome</html>", content_type="text/html")

    async def redirect(_: web.Request) -> web.Response:
        raise web.HTTPFound("http://127.0.0.1:9/login")

    fake.faults += [page, redirect]
    for _ in range(2):
        with pytest.raises(UnreadableError):
            await dw.task(1)


async def test_an_address_that_is_none() -> None:
    """A typo is told at once."""
    async with Client("http://[") as dw:
        with pytest.raises(UnreadableError, match="is not the address of a server"):
            await dw.task(1)


async def test_the_token_is_sent(fake: Fake) -> None:
    """As a bearer token, on every request; without one, no header at all."""
    fake.add()
    async with Client(fake.url, "secret") as dw:
        await dw.task(1)
    async with Client(fake.url) as dw:
        await dw.task(1)
    assert fake.authorization == ["Bearer secret", None]


async def test_a_log_is_streamed_with_its_state(fake: Fake, dw: Client) -> None:
    """Pieces as they come, bytes as they are."""
    data = bytes(range(256)) * 4000
    fake.add(status="succeeded", attempt=1)
    fake.log(1, "stdout", data)
    fake.log_state = "missing"
    async with dw.logs(1, stream="stdout", offset=10) as log:
        pieces = [piece async for piece in log]
    assert log.state == "missing"
    assert b"".join(pieces) == data[10:]
    assert len(pieces) > 1


async def test_a_log_that_breaks_off_is_an_error(fake: Fake, dw: Client) -> None:
    """Half a log must never look like a whole one."""

    async def half(request: web.Request) -> web.StreamResponse:
        out = web.StreamResponse(headers={"Log-State": "complete", "Content-Length": "100"})
        await out.prepare(request)
        await out.write(b"x" * 40)
        assert request.transport is not None
        request.transport.close()
        return out

    fake.faults.append(half)
    async with dw.logs(1) as log:
        with pytest.raises(BrokenOffError) as caught:
            [piece async for piece in log]
    assert caught.value.received == 40


async def test_a_retry_names_the_attempt_that_it_follows(fake: Fake, dw: Client) -> None:
    """So that sending it twice starts one attempt, and a stale wish none."""
    fake.add(status="failed", attempt=3)
    assert (await dw.retry(1)).status == "pending"
    with pytest.raises(ConflictError):
        await dw.retry(1, after_attempt=2)


async def test_group_names_are_quoted(fake: Fake, dw: Client) -> None:
    """A group may be called anything."""
    fake.add(group="a/b ?%")
    assert (await dw.group("a/b ?%")).total == 1


def test_backoff_grows_to_a_bound_and_ends_with_patience() -> None:
    """A restarted server is not met by all clients together, nor asked forever."""
    for failures, most in [(1, 0.05), (2, 0.1), (30, 5.0)]:
        waits = [backoff_s(failures, 100, None) for _ in range(200)]
        assert all(wait is not None and most / 2 <= wait <= most for wait in waits)
        assert len(set(waits)) > 100
    assert backoff_s(5, 0.01, None) is None
    assert backoff_s(1, 100, 30) == 30
    assert backoff_s(1, 10, 30) is None


def test_retry_after_is_a_number_or_a_date() -> None:
    """RFC 9110 allows both; nonsense is no wish."""
    assert retry_after_s("2.5", 0) == 2.5
    assert retry_after_s("Thu, 01 Jan 1970 00:01:00 GMT", 50) == 10
    assert retry_after_s("Thu, 01 Jan 1970 00:01:00 GMT", 99) == 0
    assert retry_after_s("soon", 0) is None
    assert retry_after_s(None, 0) is None
