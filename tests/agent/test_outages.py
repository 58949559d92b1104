"""The API fails in every way that it can; the agent loses nothing and doubles nothing."""

import pytest

from schema.reports import LogChunk, Verdict
from tests.agent.conftest import StartAgent
from tests.agent.fake_api import FakeApi, cut, lose, refuse


async def test_it_waits_for_an_api_that_is_not_there_yet(
    fake: FakeApi, start_agent: StartAgent, caplog: pytest.LogCaptureFixture
) -> None:
    """It says so once, not with every try."""
    fake.faults["/sessions"].extend([cut, refuse(503), refuse(502), cut])
    task = fake.add("echo hello")
    async with start_agent():
        await fake.result(task)
    assert sum("the API is away" in line for line in caplog.messages) == 1


async def test_an_outage_in_the_middle(fake: FakeApi, start_agent: StartAgent) -> None:
    """Running tasks run on, their logs wait."""
    task = fake.add("for i in 1 2 3 4 5 6; do echo $i; sleep 0.05; done")
    async with start_agent(flush_s=0.05):
        fake.flush_ms = 50
        await fake.until(lambda: bool(fake.log(task)), "the first log arrives")
        fake.away = True
        seen = len(fake.tokens)
        for path in ("/beats", "/claims", "/reports"):
            fake.faults[path].append(cut)
        await fake.until(lambda: len(fake.tokens) >= seen)
        fake.away = False
        await fake.result(task)
    assert fake.log(task) == b"1\n2\n3\n4\n5\n6\n"


@pytest.mark.parametrize("fault", [cut, lose, refuse(503, {"Retry-After": "0"}), refuse(500)])
async def test_a_report_that_fails_is_sent_again(
    fake: FakeApi, start_agent: StartAgent, fault: object
) -> None:
    """What may have been stored is marked as resent; the fake refuses it otherwise."""
    fake.faults["/reports"].extend([fault, fault])  # type: ignore[list-item]
    task = fake.add("seq 200000")
    async with start_agent():
        result = await fake.result(task)
    assert result.stdout is not None
    assert fake.log(task).split() == [b"%d" % number for number in range(1, 200_001)]


async def test_a_lost_claim_reply_costs_one_beat(fake: FakeApi, start_agent: StartAgent) -> None:
    """The beat after it says what is held, and the API gives the rest again."""
    fake.faults["/claims"].append(lose)
    task = fake.add("echo once")
    async with start_agent():
        await fake.result(task)
    assert fake.given[task, 1] == 1
    assert fake.log(task) == b"once\n"


async def test_a_late_claim_reply_after_redelivery_runs_once(
    fake: FakeApi, start_agent: StartAgent
) -> None:
    """A task can come by a beat while the reply to its claim is still on its way."""
    order: list[str] = []

    async def late(request: object, answer: object) -> object:
        response = await answer()  # type: ignore[operator]
        fake.faults["/beats"].append(refuse(503))  # so that the next beat compares
        fake.flush_ms = 4000
        fake.poke()
        await fake.until(lambda: bool(fake.results), "it ran by redelivery")
        order.append("claim answered")
        return response

    fake.faults["/claims"].append(late)  # type: ignore[arg-type]
    task = fake.add("echo once")
    other = None
    async with start_agent():
        await fake.result(task)
        other = fake.add("echo other")
        await fake.result(other)
    assert order == ["claim answered"]
    assert fake.log(task) == b"once\n"


async def test_a_dead_session_is_replaced(fake: FakeApi, start_agent: StartAgent) -> None:
    """What ran is stopped, as it runs elsewhere already; its log still arrives."""
    task = fake.add("echo first; sleep 600")
    async with start_agent(slots=1, flush_s=0.05):
        fake.flush_ms = 50
        await fake.until(lambda: fake.log(task) == b"first\n")
        fake.end_sessions()
        await fake.until(lambda: len(fake.sessions) == 2, "a second session")
        await fake.until(lambda: fake.log(task, attempt=2) == b"first\n", "the second attempt")
        assert (task, 1) not in fake.results
        fake.cancelled.add((task, 2))
        fake.poke()
        result = await fake.result(task, 2)
    assert result.reason == "cancelled"


async def test_a_refused_chunk_holds_nothing_up(
    fake: FakeApi, start_agent: StartAgent, caplog: pytest.LogCaptureFixture
) -> None:
    """The result goes without it, and a line says which bytes are lost."""
    fake.refuse_chunk = lambda chunk: Verdict("gone", "retention") if chunk.offset == 0 else None
    task = fake.add("echo hello")
    async with start_agent():
        await fake.until(lambda: any("are lost" in line for line in caplog.messages))
        await fake.until(lambda: bool(fake.results))
    fake.wrongs.clear()  # the result declares what the fake refused
    assert f"task {task} attempt 1: stdout bytes 0-6 are lost, the API says gone: retention" in (
        caplog.messages
    )


async def test_one_bad_item_does_not_hold_up_the_others(
    fake: FakeApi, start_agent: StartAgent, caplog: pytest.LogCaptureFixture
) -> None:
    """A body that is refused as a whole is cut down until the item at fault stands alone."""
    import msgspec

    from schema.reports import Report
    from tests.agent import fake_api

    bad = fake.add("echo bad")
    good = [fake.add(f"echo {number}") for number in range(20)]

    async def picky(request: object, answer: object) -> object:
        fake.faults["/reports"].append(picky)  # type: ignore[arg-type]
        data = await request.read()  # type: ignore[attr-defined]
        report = msgspec.msgpack.decode(data, type=Report)
        if any(chunk.lease == f"{bad}.1" for chunk in report.chunks):
            return fake_api.problem(400, "I do not like it")
        return await answer()  # type: ignore[operator]

    fake.faults["/reports"].append(picky)  # type: ignore[arg-type]
    async with start_agent(slots=4):
        for task in good:
            await fake.result(task)
        await fake.result(bad)
    fake.wrongs.clear()
    assert [fake.log(task) for task in good] == [b"%d\n" % number for number in range(20)]
    assert any("bytes 0-4 are lost" in line for line in caplog.messages)


async def test_a_report_that_is_too_large_is_split(fake: FakeApi, start_agent: StartAgent) -> None:
    """A proxy in between may take less than the API."""

    async def small(request: object, answer: object) -> object:
        fake.faults["/reports"].append(small)  # type: ignore[arg-type]
        if request.content_length > 700_000:  # type: ignore[attr-defined]
            return refuse(413)(request, answer)  # type: ignore[arg-type]
        return await answer()  # type: ignore[operator]

    fake.faults["/reports"].append(small)  # type: ignore[arg-type]
    task = fake.add("openssl rand 5000000")
    async with start_agent():
        await fake.result(task)
    assert len(fake.log(task)) == 5_000_000


async def test_an_exclusive_task_ends_with_its_lease(
    fake: FakeApi, start_agent: StartAgent, system: str
) -> None:
    """Nobody can prove that it is not given to another agent, so it must not run on."""
    fake.lease_s = 2
    exclusive = fake.add("sleep 600", exclusive=True)
    other = fake.add("sleep 3.5; echo survived")
    async with start_agent(kill_grace_s=0.5):
        await fake.until(lambda: len(fake.owned) == 2)
        fake.away = True
        fake.poke()
        await fake.until(lambda: False, timeout_s=2.5) if False else None
        import asyncio

        await asyncio.sleep(2.2)
        fake.away = False
        result = await fake.result(exclusive)
        assert (await fake.result(other)).exit_code == 0
    assert result.reason == "agent_lost"


def test_marker_of_chunks() -> None:
    """Chunks are what the faults above are about."""
    assert LogChunk.__struct_fields__[0] == "lease"
