"""Claims over HTTP: who waits is woken, who went away is given nothing, nobody is forgotten."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta

import asyncpg
import msgspec
import pytest

from tests.api.conftest import StartApi
from tests.api.server import Api, eventually, exited


async def test_an_agent_is_given_only_what_its_labels_cover(api: Api) -> None:
    """A phone test on a desktop would fail."""
    both = await api.submit(needs=["c-os", "c-gpu"])
    one = await api.submit(needs=["c-os"])
    session = await api.open("c-os", "c-other")
    assert [task.id for task in await api.claim(session, slots=9)] == [one]
    full = await api.open("c-gpu", "c-os")
    assert [task.id for task in await api.claim(full, slots=9)] == [both]


async def test_no_more_than_the_slots_are_given(api: Api) -> None:
    """What is claimed ahead of a slot waits for it, though another agent is free."""
    numbers = [await api.submit(needs=["slots"]) for _ in range(5)]
    session = await api.open("slots")
    assert [task.id for task in await api.claim(session, slots=2)] == numbers[:2]
    assert [task.id for task in await api.claim(session, slots=100)] == numbers[2:]


async def test_priorities_are_kept_across_lanes(api: Api) -> None:
    """Higher first, then the order of submission, whatever the needs."""
    order = {}
    for priority in (3, 9, 0, 9):
        for needs in (["p-a"], ["p-a", "p-b"]):
            order[await api.submit(needs=needs, priority=priority)] = priority
    session = await api.open("p-a", "p-b")
    given = [(await api.claim(session))[0].id for _ in order]
    assert given == sorted(order, key=lambda number: (-order[number], number))


async def test_nothing_to_do_is_answered_at_once_or_when_the_wait_is_over(api: Api) -> None:
    """Without a wait it is a look; with one it ends in time."""
    session = await api.open("nothing")
    loop = asyncio.get_running_loop()
    assert await api.claim(session) == []
    begun = loop.time()
    assert await api.claim(session, wait=0.3) == []
    assert 0.25 <= loop.time() - begun < 5


async def test_a_waiting_agent_is_woken_by_a_submission(api: Api) -> None:
    """Milliseconds, not the next poll. The needs are new, so a lane comes into being."""
    session = await api.open("wake-up")
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(api.claim(session, wait=30))
        await _parked(api, waiting)
        number = await api.submit(needs=["wake-up"])
    assert [task.id for task in waiting.result()] == [number]


async def _parked(api: Api, waiting: "asyncio.Task[object]") -> None:
    """Let the request reach the server, which answers these in order on one loop."""
    for _ in range(5):
        await api.call("GET", "/health/live")
    assert not waiting.done()


async def test_a_submission_to_one_server_wakes_an_agent_at_another(start_api: StartApi) -> None:
    """Servers of one database tell each other; without it a task waits for the next look."""
    async with start_api() as one, start_api() as other:
        session = await one.open("between")
        # The lane exists and its first task was taken, so that only the notice can tell.
        await one.submit(needs=["between"])
        assert len(await one.claim(session, wait=10)) == 1
        took_s = []
        loop = asyncio.get_running_loop()
        for _ in range(5):
            async with asyncio.TaskGroup() as group:
                waiting = group.create_task(one.claim(session, wait=30))
                await _parked(one, waiting)
                begun = loop.time()
                number = await other.submit(needs=["between"])
                assert [task.id for task in await waiting] == [number]
                took_s.append(loop.time() - begun)
        # A look without any notice comes after 0.75 to 1.25 s.
        assert min(took_s) < 0.5, took_s


async def test_a_lost_notice_costs_no_more_than_a_second(
    own_api: Api, database: asyncpg.Connection
) -> None:
    """Its sender may be killed between commit and notice: who waits looks again by himself."""
    number = await own_api.submit(needs=["silent"])
    await database.execute("UPDATE tasks SET status = 'scheduled', run_after = now() + '1 day'")
    session = await own_api.open("silent")
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(own_api.claim(session, wait=30))
        await _parked(own_api, waiting)
        await database.execute("UPDATE tasks SET status = 'pending'")
    assert [task.id for task in waiting.result()] == [number]


async def test_a_newer_claim_of_a_session_ends_the_older_one_empty(api: Api) -> None:
    """The agent's connection broke and it asks again: one of both must get the tasks."""
    session = await api.open("newer")
    async with asyncio.TaskGroup() as group:
        older = group.create_task(api.claim(session, wait=30))
        await _parked(api, older)
        newer = group.create_task(api.claim(session, wait=30))
        assert await older == []
        number = await api.submit(needs=["newer"])
        assert [task.id for task in await newer] == [number]


async def test_an_agent_that_went_away_while_it_waited_is_given_nothing(api: Api) -> None:
    """Its task would wait for a whole lease, and another agent stands idle."""
    gone, there = await api.open("gone"), await api.open("gone")
    waiting = asyncio.ensure_future(api.claim(gone, wait=30))
    await _parked(api, waiting)
    waiting.cancel()  # closes the connection
    await asyncio.wait([waiting])
    for _ in range(10):
        number = await api.submit(needs=["gone"])
        (task,) = await api.claim(there, wait=10)
        assert (task.id, task.attempt) == (number, 1)
        await api.report(there, [], [exited(task.lease)])


async def test_a_claim_cut_while_it_is_served_stays_with_its_session(
    own_api: Api, database: asyncpg.Connection
) -> None:
    """Taken back, it could run twice: the agent asks what it holds as soon as its claim is cut."""
    session = await own_api.open("cut")
    number = await own_api.submit(needs=["cut"])
    async with database.transaction():
        await database.execute("LOCK TABLE tasks IN SHARE ROW EXCLUSIVE MODE")
        waiting = asyncio.ensure_future(own_api.claim(session, wait=30))
        await eventually(
            lambda: database.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"), bool
        )
        waiting.cancel()  # closes the connection
        await asyncio.wait([waiting])
        for _ in range(10):
            await own_api.call("GET", "/health/live")
    reply = await eventually(
        lambda: own_api.beat(session, held=[]), lambda beat: bool(beat.redeliver)
    )
    (task,) = reply.redeliver
    assert (task.id, task.attempt) == (number, 1)
    assert (await own_api.beat(session, held=[[number, 1]], wait=1)).cancel == ()
    assert await own_api.report(session, [], [exited(task.lease)]) == ["ok"]


async def test_many_agents_share_many_tasks_and_nobody_starves(own_api: Api) -> None:
    """A hundred waiting requests are served together: each task once, no request empty."""
    sessions = [await own_api.open("share") for _ in range(20)]
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(own_api.claim(each, slots=5, wait=30)) for each in sessions]
        await _parked(own_api, waiting[0])
        body = [{"command": "x", "needs": ["share"]}] * 100
        assert (await own_api.post("/tasks", body)).status == 201
    given = [[task.id for task in each.result()] for each in waiting]
    assert all(given)
    left: list[int] = []
    while more := await own_api.claim(sessions[0], slots=100):
        left += [task.id for task in more]
    counted = Counter(sum(given, left))
    assert len(counted) == 100
    assert set(counted.values()) == {1}


@pytest.mark.parametrize("servers", [2])
async def test_two_servers_never_give_the_same_task_twice(
    start_api: StartApi, servers: int
) -> None:
    """The claim is one statement over one database, whoever runs it."""
    assert servers == 2
    async with start_api() as one, start_api() as other:
        body = [{"command": "x", "needs": ["twice"], "priority": n % 10} for n in range(300)]
        assert (await one.post("/tasks", body)).status == 201
        sessions = [(api, await api.open("twice")) for api in (one, other) * 3]

        async def drain(api: Api, session: str) -> list[int]:
            given: list[int] = []
            while tasks := await api.claim(session, slots=7, wait=2):
                given += [task.id for task in tasks]
            return given

        given = await asyncio.gather(*(drain(*each) for each in sessions))
        counted = Counter(number for each in given for number in each)
        assert len(counted) == 300
        assert set(counted.values()) == {1}


async def test_a_due_task_wakes_who_waits(api: Api) -> None:
    """`run_after` is the earliest moment, and soon after it the task runs."""
    session = await api.open("due")
    due = datetime.now(UTC) + timedelta(seconds=0.7)
    number = await api.submit(needs=["due"], run_after=due)
    assert (await api.task(number)).status == "scheduled"
    assert await api.claim(session) == []
    (task,) = await api.claim(session, wait=20)
    assert task.id == number
    started_at = (await api.task(number)).started_at
    assert started_at is not None
    assert due <= started_at <= due + timedelta(seconds=5)


async def test_a_task_that_failed_waits_and_is_claimed_again(api: Api) -> None:
    """The pause is over without anybody asking."""
    session, task = await api.started(max_attempts=3)
    await api.report(session, [], [exited(task.lease, 1)])
    assert (await api.task(task.id)).status == "scheduled"
    (again,) = await api.claim(session, wait=20)
    assert again.attempt == 2


async def test_running_counts_are_seen_by_people(api: Api) -> None:
    """`/agents` says what each one runs."""
    label = "counted"
    await api.submit(needs=[label])
    session = await api.open(label, agent="counted-agent")
    await api.claim(session)

    async def running() -> list[int]:
        agents = (await api.call("GET", "/agents")).as_(list[dict[str, object]])
        return [int(str(each["running"])) for each in agents if each["agent"] == "counted-agent"]

    assert await eventually(running, bool) == [1]
    assert session not in (await api.call("GET", "/agents")).text


async def _dealt(api: Api, label: str) -> tuple[int, int]:
    """Six tasks between one that claims ahead and one with three free slots: how many each got."""
    await api.submit(needs=[label], key=f"the lane {label} is there")
    ahead, free = await api.open(label), await api.open(label)
    assert len(await api.claim(ahead)) == 1
    async with asyncio.TaskGroup() as group:
        # The one that claims ahead waits longer, so it is dealt its places first.
        first = group.create_task(api.claim(ahead, slots=1, wait=5, ahead=50))
        await _parked(api, first)
        second = group.create_task(api.claim(free, slots=3, wait=5))
        await _parked(api, second)
        await api.call("POST", "/tasks", json=[{"command": "true", "needs": [label]}] * 6)
    taken = len(first.result())
    if taken == 1:  # both waited already: only slots are filled as tasks are stored
        taken += len(await api.claim(ahead, slots=1, ahead=50))
    return taken, len(second.result())


async def test_a_free_slot_comes_before_what_is_claimed_ahead(api: Api) -> None:
    """Whoever has short tasks claims ahead: another agent must not stand idle for it.

    Whether a claim is parked cannot be seen from outside: on a busy machine it may come too late.
    """
    seen: list[tuple[int, int]] = []
    while (3, 3) not in seen:
        seen.append(await _dealt(api, f"slots-first-{len(seen)}"))
        assert len(seen) < 5, seen


async def test_a_claim_of_nothing_is_refused(api: Api) -> None:
    """It would be parked for nothing."""
    session = await api.open("nothing-wanted")
    reply = await api.call("POST", "/claims", json={"session": session, "slots": 0})
    reply.problem(400, "slots", "ahead")


_LARGE = {str(number): "x" * 131_000 for number in range(4)}


async def test_a_reply_has_a_bound_in_bytes(api: Api) -> None:
    """Its session asks again for the rest, and nobody is told that the queue is empty.

    Of those who ask at the same time, too, each is given something.
    """
    numbers = [await api.submit(needs=["large"], env=_LARGE) for _ in range(40)]
    sessions = [await api.open("large") for _ in range(3)]
    given = [await api.claim(sessions[0], slots=1000)]
    assert [task.id for task in given[0]] == numbers[: len(given[0])]
    assert 5_000_000 < sum(len(msgspec.json.encode(task)) for task in given[0]) < 8_500_000
    asking = (api.claim(session, slots=1000, wait=5) for session in sessions)
    given += await asyncio.gather(*asking)
    while more := await api.claim(sessions[0], slots=1000):
        given.append(more)
    assert all(given[:4])
    assert sorted(task.id for tasks in given for task in tasks) == numbers


async def test_what_a_large_claim_left_is_not_passed_by(
    start_api: StartApi, database: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its statement locks more than it takes.

    A neighbour's that is over after it has passed by all that, and believes that nothing is there.
    """
    monkeypatch.setattr("api.claims._LOOK_AGAIN_S", (60, 60))
    async with start_api() as api:
        numbers = [await api.submit(needs=["left"], env=_LARGE) for _ in range(25)]
        last = await api.submit(needs=["left"])
        one, other = await api.open("left"), await api.open("left")
        await database.execute("""
            CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN
                PERFORM pg_advisory_xact_lock_shared(CASE WHEN NEW.env IS NULL THEN 8 ELSE 7 END);
                RETURN NEW; END';
            CREATE TRIGGER wait BEFORE UPDATE ON tasks FOR EACH ROW EXECUTE FUNCTION wait();
            SELECT pg_advisory_lock(7), pg_advisory_lock(8)""")
        async with asyncio.TaskGroup() as group:
            large = group.create_task(api.claim(one, slots=25))
            await _waiting(database, 1)
            passing = group.create_task(api.claim(other, slots=25))
            await _waiting(database, 2)
            await database.execute("SELECT pg_advisory_unlock(7)")
            taken = len(await large)
            await database.execute("SELECT pg_advisory_unlock(8)")
        assert 0 < taken < 25
        assert [task.id for task in passing.result()] == [last]
        (after,) = await eventually(lambda: api.claim(other), bool)
        assert after.id == numbers[taken]


async def _waiting(database: asyncpg.Connection, many: int) -> None:
    """Await that so many statements wait for a lock."""
    count = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    await eventually(lambda: database.fetchval(count), lambda waiting: waiting == many)
