"""The API fails in every way that it can; the agent loses nothing and doubles nothing."""

import asyncio
import os
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from agent import linux
from agent.reports import MOST_BYTES
from schema.reports import Report, Verdict
from tests.agent.conftest import StartAgent, eventually
from tests.agent.fake_api import Answer, CutError, FakeApi, Fault, cut, lose, problem, refuse


async def test_it_waits_for_an_api_that_is_not_there_yet(
    fake: FakeApi, start_agent: StartAgent, caplog: pytest.LogCaptureFixture
) -> None:
    """It says so once, not with every try."""
    fake.faults["/sessions"].extend([cut, refuse(503), refuse(502), cut])
    task = fake.add("echo hello")
    async with start_agent():
        await fake.result(task)
    assert sum("the API cannot be reached" in line for line in caplog.messages) == 1


async def test_an_outage_in_the_middle(
    fake: FakeApi, start_agent: StartAgent, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Running tasks run on, their logs wait, and two lines tell people."""
    caplog.set_level("INFO", "agent")
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    task = fake.add(f"echo before; read line < {gate}; echo after")
    async with start_agent():
        await fake.until(lambda: bool(fake.owned))
        fake.flush_ms = 50
        fake.poke()
        await fake.until(lambda: bool(fake.log(task)), "the first log arrives")
        fake.away = True
        fake.flush_ms = 60  # a change answers the parked beat: the next one meets the outage
        fake.poke()
        gate.write_text("go\n")
        noticed = "the API cannot be reached"
        await eventually(lambda: noticed in caplog.text, "the outage is noticed")
        fake.away = False
        await fake.result(task)
    assert fake.log(task) == b"before\nafter\n"
    assert "the API is back" in caplog.text


@pytest.mark.parametrize("fault", [cut, lose, refuse(503, {"Retry-After": "0"}), refuse(500)])
async def test_a_report_that_fails_is_sent_again(
    fake: FakeApi, start_agent: StartAgent, fault: Fault
) -> None:
    """What may have been stored is marked as resent; the fake refuses it otherwise."""
    fake.faults["/reports"].extend([fault, fault])
    task = fake.add("seq 200000")
    async with start_agent():
        result = await fake.result(task)
    assert result.stdout is not None
    assert fake.log(task).split() == [b"%d" % number for number in range(1, 200_001)]


async def test_a_report_that_hangs_does_not_hold_up_the_others(
    fake: FakeApi, start_agent: StartAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker of the API may hang: what waits behind it goes another way."""
    monkeypatch.setattr("agent.outbox.ALONE_S", 0.05)
    over = asyncio.Event()

    async def hang(request: web.Request, answer: Answer) -> web.Response:
        await over.wait()
        return await answer()

    fake.faults["/reports"].append(hang)
    stuck = fake.add("echo stuck")
    async with start_agent():
        await fake.until(lambda: bool(fake.owned))
        await eventually(lambda: not fake.faults["/reports"], "the first report hangs")
        await fake.result(fake.add("echo quick"))
        assert stuck not in {task for task, _ in fake.results}
        over.set()
        await fake.result(stuck)


async def test_a_small_report_that_hangs_is_given_up(
    fake: FakeApi, start_agent: StartAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After as long as its size asks for, not after what the largest would take."""
    monkeypatch.setattr("agent.api_client._ANSWER_S", 0.1)

    async def hang(request: web.Request, answer: Answer) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    fake.faults["/reports"].append(hang)
    task = fake.add("echo hello")
    async with start_agent():
        await fake.result(task)
    assert fake.log(task) == b"hello\n"


async def test_an_api_that_does_not_park_is_not_asked_in_a_circle(
    fake: FakeApi, start_agent: StartAgent
) -> None:
    """While it stops it answers every claim at once."""
    loop = asyncio.get_running_loop()
    asked_s: list[float] = []

    async def empty(request: web.Request, answer: Answer) -> web.Response:
        asked_s.append(loop.time())
        fake.poke()
        return web.json_response({"tasks": []})

    fake.standing["/claims"] = empty
    async with start_agent():
        await fake.until(lambda: len(asked_s) >= 4, "four claims")
    assert all(later - sooner > 0.2 for sooner, later in pairwise(asked_s))


async def test_a_lost_claim_reply_costs_one_beat(fake: FakeApi, start_agent: StartAgent) -> None:
    """The beat after it says what is held, and the API gives the rest again."""
    fake.faults["/claims"].append(lose)
    task = fake.add("echo once")
    async with start_agent():
        await fake.result(task)
    assert fake.given[task, 1] == 1
    assert fake.log(task) == b"once\n"


async def test_a_reply_that_could_not_hold_all_is_followed_by_the_next(
    fake: FakeApi, start_agent: StartAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a lost claim gave may be too much for one beat: it compares until nothing is missing."""
    monkeypatch.setattr("agent.beats.COMPARE_S", 1000)
    fake.redeliver_most = 1
    fake.faults["/claims"].append(lose)
    tasks = [fake.add(f"echo {number}") for number in range(3)]
    async with start_agent(slots=3):
        for task in tasks:
            await fake.result(task)
    assert [fake.given[task, 1] for task in tasks] == [1, 1, 1]


async def test_a_late_claim_reply_after_redelivery_runs_once(
    fake: FakeApi, start_agent: StartAgent, tmp_path: Path
) -> None:
    """A task can come by a beat while the reply to its claim is still on its way."""

    async def late(request: web.Request, answer: Answer) -> web.Response:
        response = await answer()
        fake.faults["/beats"].append(refuse(503))  # the beat after a failure compares
        fake.flush_ms = 4000  # ends the parked one
        fake.poke()
        await fake.until(lambda: bool(fake.results), "it ran by redelivery")
        return response

    fake.faults["/claims"].append(late)
    task = fake.add(f"echo ran >> {tmp_path}/runs; echo once")
    async with start_agent():
        await fake.result(task)
        other = fake.add("echo other")  # claimed when the late reply has been taken
        await fake.result(other)
    assert (tmp_path / "runs").read_text() == "ran\n"
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
        said = [one.message for kind, body in fake.requests if kind == "report"
                for one in body.results if one.lease == f"{task}.1"]  # fmt: skip
        assert said[-1] == "agent tester was cut off until the API ended its session"
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
    bad = fake.add("echo bad")
    good = [fake.add(f"echo {number}") for number in range(20)]

    async def picky(request: web.Request, answer: Answer) -> web.Response:
        report = msgspec.msgpack.decode(await request.read(), type=Report)
        if any(chunk.lease == f"{bad}.1" for chunk in report.chunks):
            return problem(400, "I do not like it")
        return await answer()

    fake.standing["/reports"] = picky
    async with start_agent(slots=4):
        for task in good:
            await fake.result(task)
        await fake.result(bad)
    fake.wrongs.clear()  # the result declares what was refused
    assert [fake.log(task) for task in good] == [b"%d\n" % number for number in range(20)]
    assert any("bytes 0-4 are lost" in line for line in caplog.messages)


async def test_a_report_that_is_too_large_is_split(fake: FakeApi, start_agent: StartAgent) -> None:
    """A proxy in between may take less than the API."""

    async def small(request: web.Request, answer: Answer) -> web.Response:
        if (request.content_length or 0) > 700_000:
            return problem(413, "too large")
        return await answer()

    fake.standing["/reports"] = small
    task = fake.add("openssl rand 5000000")
    async with start_agent():
        await fake.result(task)
    assert len(fake.log(task)) == 5_000_000


async def test_a_result_that_is_refused_is_said_in_fewer_words(
    fake: FakeApi, start_agent: StartAgent, caplog: pytest.LogCaptureFixture
) -> None:
    """Unsaid, the attempt would stay open for as long as the session lives."""

    async def picky(request: web.Request, answer: Answer) -> web.Response:
        report = msgspec.msgpack.decode(await request.read(), type=Report)
        if any(result.run_s is not None for result in report.results):
            return problem(400, "no run_s please")
        return await answer()

    fake.standing["/reports"] = picky
    task = fake.add("exit 3")
    async with start_agent():
        result = await fake.result(task)
    assert (result.reason, result.exit_code) == ("exit", 3)
    assert result.message is not None
    assert "no run_s please" in result.message
    assert any("its result was refused" in line for line in caplog.messages)


async def test_an_exclusive_task_ends_with_its_lease(
    fake: FakeApi, start_agent: StartAgent, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nobody can prove that it is not given to another agent; other tasks outlive an outage."""
    boot_s = linux.boot_s
    ahead_s = 0.0
    monkeypatch.setattr(linux, "boot_s", lambda: boot_s() + ahead_s)
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    exclusive = fake.add("sleep 600", exclusive=True)
    other = fake.add(f"read line < {gate}; echo survived")
    async with start_agent() as worker:
        await eventually(lambda: len(worker._attempts.running) == 2, "both run")
        fake.away = True
        ahead_s = fake.lease_s - 2  # so that the kill grace of 1 s begins in a moment
        await eventually(lambda: (exclusive, 1) not in worker._attempts.running, "it is ended")
        assert (other, 1) in worker._attempts.running
        fake.away = False
        gate.write_text("go\n")
        result = await fake.result(exclusive)
        assert (await fake.result(other)).exit_code == 0
    assert result.reason == "agent_lost"
    assert (result.message or "").startswith("agent tester cannot reach the API")


async def test_an_exclusive_task_does_not_start_on_a_lease_that_is_over(
    fake: FakeApi, start_agent: StartAgent, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The machine may have slept between the claim and the start."""
    boot_s = linux.boot_s
    ahead_s = 0.0
    monkeypatch.setattr(linux, "boot_s", lambda: boot_s() + ahead_s)

    async def sleepy(request: web.Request, answer: Answer) -> web.Response:
        nonlocal ahead_s
        response = await answer()
        ahead_s = fake.lease_s
        return response

    fake.faults["/claims"].append(sleepy)
    exclusive = fake.add(f"touch {tmp_path}/started", exclusive=True)
    async with start_agent():
        result = await fake.result(exclusive)
    assert result.reason == "returned"
    assert not (tmp_path / "started").exists()


async def test_what_a_dead_session_is_still_given_does_not_run(
    fake: FakeApi, start_agent: StartAgent, tmp_path: Path
) -> None:
    """A claim may be answered after another loop heard that its session is dead.

    The task is somebody else's by then, and no beat of the next session would end it here.
    """
    told, opened = asyncio.Event(), asyncio.Event()

    async def late(request: web.Request, answer: Answer) -> web.Response:
        response = await answer()
        fake.end_sessions()
        await told.wait()
        return response

    async def later(request: web.Request, answer: Answer) -> web.Response:
        told.set()
        await opened.wait()
        return await answer()

    fake.faults["/claims"].append(late)
    task = fake.add(f"echo $DW_ATTEMPT >> {tmp_path}/ran")
    async with start_agent() as worker:
        await fake.until(lambda: bool(fake.sessions), "a session")
        fake.faults["/sessions"].append(later)
        await asyncio.wait_for(told.wait(), 20)
        # The late reply is read before the next session opens.
        await eventually(lambda: len(fake.faults["/claims"]) == 0, "the claim is answered")
        await eventually(lambda: worker._claims._parked is None, "its reply has come")
        opened.set()
        await fake.result(task, attempt=2)
    assert (tmp_path / "ran").read_text() == "2\n"


async def test_results_do_not_wait_behind_chunks_that_no_request_gets_through(
    fake: FakeApi, start_agent: StartAgent
) -> None:
    """On a line that cuts what is large, tasks that wrote little still end."""

    async def cut_large(request: web.Request, answer: Answer) -> web.Response:
        if len(await request.read()) > 100_000:
            raise CutError
        return await answer()

    fake.standing["/reports"] = cut_large
    async with start_agent(slots=2) as worker:
        large = fake.add("openssl rand 400000")
        await eventually(
            lambda: worker._reports._bytes < MOST_BYTES, "a large request has been cut"
        )
        await fake.result(fake.add("true"))
        del fake.standing["/reports"]
        await fake.result(large)
