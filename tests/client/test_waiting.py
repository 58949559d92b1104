"""Waiting is cheap, and tells how every task ended."""

import pytest
from aiohttp import web

from client.client import Client
from client.errors import NotFoundError, StillRunningError
from client.following import advance, follow
from client.waiting import IDS_PER_REQUEST, Progress
from schema.tasks import Stream
from tests.client.fake import Fake


def _finish_after(fake: Fake, requests: int) -> None:
    """All tasks end when so many requests were seen."""

    def end(_: object) -> None:
        if len(fake.seen) == requests:
            for task_id in fake.tasks:
                fake.change(task_id, status="succeeded")

    fake.on_request = end


async def test_a_group_is_one_small_request_a_look(fake: Fake, dw: Client) -> None:
    """However many tasks it has."""
    ids = [fake.add(group="g").id for _ in range(1000)]
    _finish_after(fake, 4)
    looks: list[Progress] = []
    waited = await dw.wait(ids, group="g", seen=looks.append)
    assert (waited.total, waited.succeeded, waited.others) == (1000, 1000, ())
    assert fake.seen == ["GET /groups/g"] * 4
    assert [look.ended for look in looks] == [0, 0, 1000]


async def test_a_group_shared_with_others_is_not_waited_for(fake: Fake, dw: Client) -> None:
    """The ids count: somebody else's endless task in the same group holds nobody up."""
    fake.add(group="g", status="in_progress")
    mine = fake.add(group="g", status="succeeded").id
    assert (await dw.wait([mine], group="g")).succeeded == 1


async def test_ids_are_asked_for_in_bounded_addresses_and_only_while_unfinished(
    fake: Fake, dw: Client
) -> None:
    """An address over 8 KB is refused by common proxies; ended tasks cost nothing more."""
    ids = [fake.add(status="succeeded").id for _ in range(IDS_PER_REQUEST)]
    ids.append(fake.add().id)
    _finish_after(fake, 7)
    assert (await dw.wait(ids)).succeeded == len(ids)
    # Pages of 100, then the one of the second batch, then only that one.
    assert fake.seen[4].startswith(f"GET /tasks?id={IDS_PER_REQUEST + 1}")
    for look in fake.seen[5:]:
        assert look.startswith(f"GET /tasks?id={IDS_PER_REQUEST + 1}&status=")
    assert max(map(len, fake.seen)) < 8000


async def test_failed_and_cancelled_tasks_are_handed_back_in_order(fake: Fake, dw: Client) -> None:
    """With their reasons: the exit code depends on them."""
    for status, reason in [("failed", "exit"), ("succeeded", "exit"), ("failed", "agent_lost")]:
        fake.add(group="g", status=status, reason=reason)
    looks: list[Progress] = []
    for waited in (
        await dw.wait(group="g", seen=looks.append), await dw.wait([1, 2, 3], seen=looks.append)
    ):  # fmt: skip
        assert [(task.id, task.reason) for task in waited.others] == [
            (1, "exit"),
            (3, "agent_lost"),
        ]
    assert [(look.failed, look.infrastructure) for look in looks] == [(2, 1)] * 2


async def test_unknown_tasks_are_an_error_not_an_endless_wait(fake: Fake, dw: Client) -> None:
    """A typo must end."""
    fake.add()
    with pytest.raises(NotFoundError, match="7, 8"):
        await dw.wait([1, 8, 7])
    with pytest.raises(NotFoundError):
        await dw.wait(group="nobody")


async def test_a_wait_may_be_bounded(fake: Fake, dw: Client) -> None:
    """It looks at the end once more, then says how many are left."""
    fake.add()
    fake.add()
    with pytest.raises(StillRunningError) as caught:
        await dw.wait([1, 2], at_most_s=0.06)
    assert caught.value.unfinished == 2


async def test_following_reads_each_stream_once_to_its_end(fake: Fake, dw: Client) -> None:
    """Nothing twice, nothing lost, also what arrives with the end."""
    fake.add()
    got: dict[Stream, bytes] = {"stdout": b"", "stderr": b""}

    def act(_: object) -> None:
        step = len(fake.seen)
        if step == 2:
            fake.change(1, status="in_progress", attempt=1)
            fake.log(1, "stdout", b"one\n")
            fake.log(1, "stderr", b"two\n")
        elif step == 5:
            fake.log(1, "stdout", b"\x00\xff")
            fake.change(1, status="succeeded")

    fake.on_request = act

    def write(stream: Stream, data: bytes) -> None:
        got[stream] += data

    task = await follow(dw, 1, write)
    assert task.status == "succeeded"
    assert got == {"stdout": b"one\n\x00\xff", "stderr": b"two\n"}
    assert fake.count("GET /tasks/1/logs") == 3


async def test_following_goes_on_with_the_next_attempt_from_its_start(
    fake: Fake, dw: Client
) -> None:
    """The rest of the lost attempt is read first."""
    fake.add(status="in_progress", attempt=1)
    fake.log(1, "stdout", b"first")
    got = bytearray()
    attempts: list[int] = []

    def act(_: object) -> None:
        if len(fake.seen) == 3:
            fake.log(1, "stdout", b" rest")
            fake.log(1, "stdout", b" second", attempt=2)
            fake.change(1, status="succeeded", attempt=2)

    fake.on_request = act
    await follow(
        dw,
        1,
        lambda _, data: got.extend(data),
        changed=lambda task: attempts.append(task.attempt),
    )
    assert bytes(got) == b"first rest second"
    assert attempts == [1, 2]


async def test_following_steps_over_bytes_that_never_arrived(fake: Fake, dw: Client) -> None:
    """A hole must neither repeat what follows it nor ask for it forever."""
    fake.add(status="succeeded", attempt=1)
    fake.log(1, "stdout", b"abcdef")
    fake.missing["stdout"] = ((3, 1000),)
    fake.log_state = "missing"
    got = bytearray()
    await follow(dw, 1, lambda _, data: got.extend(data), streams=("stdout",))
    assert bytes(got) == b"abcdef"


async def test_following_believes_the_reply_about_what_is_missing(fake: Fake, dw: Client) -> None:
    """The attempt may end, with a hole, after the look at the task: nothing comes twice then."""
    fake.add(status="in_progress", attempt=1)
    fake.log(1, "stdout", b"abc")
    got = bytearray()

    def act(request: web.Request) -> None:
        if request.path.endswith("/logs") and not fake.missing:
            fake.log(1, "stdout", b"def")
            fake.missing["stdout"] = ((3, 1000),)
            fake.log_state = "missing"
            fake.change(1, status="failed")

    fake.on_request = act
    await follow(dw, 1, lambda _, data: got.extend(data), streams=("stdout",))
    assert bytes(got) == b"abcdef"


async def test_following_outlives_a_connection_that_breaks_off(fake: Fake, dw: Client) -> None:
    """A worker of the server may be replaced while it sends: the rest is asked for."""
    fake.add(status="succeeded", attempt=1)
    fake.log(1, "stdout", b"abcdef")
    got = bytearray()

    async def break_off(request: web.Request) -> web.StreamResponse | None:
        if not request.path.endswith("/logs"):
            fake.faults.append(break_off)
            return None
        out = web.StreamResponse()
        await out.prepare(request)
        await out.write(b"abc")
        assert request.transport is not None
        request.transport.close()
        return out

    fake.faults.append(break_off)
    await follow(dw, 1, lambda _, data: got.extend(data), streams=("stdout",))
    assert bytes(got) == b"abcdef"
    assert fake.count("GET /tasks/1/logs") == 2


@pytest.mark.parametrize(
    ("offset", "received", "missing", "then"),
    [
        (0, 10, (), 10),
        (0, 10, ((4, 6),), 12),
        (0, 4, ((4, 6),), 4),
        (5, 2, ((4, 6),), 8),
        (8, 2, ((4, 6),), 10),
        (0, 6, ((2, 4), (6, 9)), 11),
    ],
)
def test_offsets_count_the_bytes_that_are_missing(
    offset: int, received: int, missing: tuple[tuple[int, int], ...], then: int
) -> None:
    """An offset is a place in what the task wrote, not in what was stored."""
    assert advance(offset, received, missing) == then
