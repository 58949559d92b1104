"""Waiting is cheap, and tells how every task ended."""

from datetime import timedelta

import pytest

from client.client import Client
from client.errors import NotFoundError, StillRunningError
from client.waiting import IDS_PER_REQUEST, Progress
from tests.client.fake import NOW, Fake


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


async def test_a_wait_tells_how_long_the_run_took(fake: Fake, dw: Client) -> None:
    """Also to whoever comes when it is over, and by one clock: from the submission to the end."""
    first, last = NOW + timedelta(seconds=-5), NOW + timedelta(seconds=40)
    fake.add(status="succeeded", finished_at=last)
    fake.add(status="failed", submitted_at=first, finished_at=NOW)
    assert (await dw.wait([1, 2])).took_s == 45
    fake.add(group="g", status="succeeded")
    assert (await dw.wait(group="g")).took_s == 90
    assert (await dw.wait([])).took_s == 0


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
