"""Claims: the best task first, nobody waits for a neighbour, nobody gets what he cannot run."""

import random
from typing import Any

import asyncpg
import pytest

from api.sealing import Seals
from api.store import claims as store
from api.store import results as result_store
from api.store import sessions as session_store
from api.store import tasks as task_store
from api.store.tasks import Queued, needs_of
from schema.lease import Lease, verify
from schema.tasks import MAX_SECRET_BYTES, Submission
from tests.store.support import claim, ended, get, lanes_of, running, session, submit

Pair = tuple[asyncpg.Connection, asyncpg.Connection]


async def test_higher_priority_first_then_the_order_of_submission(
    connection: asyncpg.Connection,
) -> None:
    """It is what people expect of a queue, over all lanes that the agent can serve."""
    owner = await session(connection)
    numbers = {}
    order = [(priority, turn) for turn in range(3) for priority in (0, 9, 5)]
    random.Random(1).shuffle(order)
    for priority, turn in order:
        needs = ("order-a",) if turn % 2 else ("order-b",)
        number = await submit(connection, needs=needs, priority=priority)
        numbers[number] = priority
    lanes = [await lanes_of(connection, "order-a"), await lanes_of(connection, "order-b")]
    expected = sorted(numbers, key=lambda number: (-numbers[number], number))
    first = await claim(connection, lanes, [owner] * 4)
    rest = await claim(connection, lanes, [owner] * 100)
    assert [task.id for task in first + rest] == expected
    assert await claim(connection, lanes, [owner]) == []


async def test_the_best_task_goes_to_the_first_place(connection: asyncpg.Connection) -> None:
    """Places are dealt out in turn: who waits longest gets the best."""
    one, other = await session(connection, "one"), await session(connection, "other")
    low = await submit(connection, needs=("places",), priority=1)
    high = await submit(connection, needs=("places",), priority=8)
    lane = await lanes_of(connection, "places")
    assert [task.id for task in await claim(connection, [lane], [other, one])] == [high, low]
    held = await store.held_by_many(connection, [other, one])
    assert [[task for (task, _), _ in each.tasks] for each in held] == [[high], [low]]


async def test_other_lanes_are_not_touched(connection: asyncpg.Connection) -> None:
    """An agent without the label must not be given the task."""
    owner = await session(connection)
    await submit(connection, needs=("lanes-gpu",))
    mine = await submit(connection, needs=("lanes-cpu",))
    lane = await lanes_of(connection, "lanes-cpu")
    assert [task.id for task in await claim(connection, [lane], [owner] * 5)] == [mine]


async def test_a_claim_starts_the_next_attempt(connection: asyncpg.Connection) -> None:
    """The agent gets all it needs to run it, and a lease that names exactly this attempt."""
    owner = await session(connection)
    task = await running(
        connection,
        owner,
        needs="start",
        command="echo $A",
        env={"A": "1 ä"},
        cwd="/tmp",
        timeout=2.5,
        no_output_timeout=0.5,
        exclusive=True,
    )
    key = b"k" * 32
    given = task.for_agent(owner, key)
    assert (given.command, given.env, given.cwd) == ("echo $A", {"A": "1 ä"}, "/tmp")
    assert (given.timeout, given.no_output_timeout) == (2.5, 0.5)
    assert (given.exclusive, given.attempt) == (True, 1)
    assert verify(given.lease, key) == Lease(task.id, 1, task.day, owner)
    seen = await get(connection, task.id)
    assert (seen.status, seen.attempt, seen.agent) == ("in_progress", 1, "tester")
    assert seen.started_at is not None
    assert seen.started_at.date() == task.day


async def test_nothing_below_the_floor_is_looked_at(connection: asyncpg.Connection) -> None:
    """The floor saves the walk over rows that were claimed; without one they are all found."""
    owner = await session(connection)
    first = await submit(connection, needs=("floor",))
    await submit(connection, needs=("floor",))
    lane = await lanes_of(connection, "floor")
    (head,) = await store.queue_heads(connection, [lane])
    assert (head.lane, head.priority) == (lane, 5)
    above = Queued(lane, 5, head.queue_seq + 1)
    ((_, place, task),) = await store.claim_many(connection, [above], [owner, owner])
    assert place.queue_seq > head.queue_seq
    assert task.id != first
    assert await store.queue_heads(connection, [lane]) == [head]
    ((_, place, task),) = await store.claim_many(connection, [head], [owner, owner])
    assert place == head
    assert task.id == first


async def test_neighbours_pass_by_each_other(pair: Pair) -> None:
    """Two claims at once neither wait nor take the same task."""
    one, other = pair
    owner = await session(one)
    numbers = [await submit(one, needs=("skip",)) for _ in range(4)]
    lane = await lanes_of(one, "skip")
    async with one.transaction():
        held = await claim(one, [lane], [owner, owner])
        passed = await claim(other, [lane], [owner] * 4)
    assert [task.id for task in held + passed] == numbers


async def test_a_claim_that_is_rolled_back_gives_its_tasks_back(pair: Pair) -> None:
    """A worker killed in the middle of a claim loses nothing."""
    one, other = pair
    owner = await session(one)
    number = await submit(one, needs=("rollback",))
    lane = await lanes_of(one, "rollback")
    transaction = one.transaction()
    await transaction.start()
    assert len(await claim(one, [lane], [owner])) == 1
    assert await claim(other, [lane], [owner]) == []
    await transaction.rollback()
    (task,) = await claim(other, [lane], [owner])
    assert (task.id, task.attempt) == (number, 1)


async def test_held_is_what_runs_with_its_cancellations(connection: asyncpg.Connection) -> None:
    """A beat compares with it: what has ended, or runs elsewhere, must not be there."""
    mine, neighbours = await session(connection, "mine"), await session(connection, "neighbour")
    asked = await running(connection, mine, needs="held-1")
    await connection.execute("UPDATE tasks SET cancel_requested = true WHERE id = $1", asked.id)
    runs = await running(connection, mine, needs="held-2")
    await running(connection, neighbours, needs="held-3")
    await submit(connection, needs=("held-4",))
    (held,) = await store.held_by_many(connection, [mine])
    assert held.tasks == [((asked.id, 1), True), ((runs.id, 1), False)]
    assert not held.drain


async def test_what_is_delivered_again_is_what_the_claim_gave(
    connection: asyncpg.Connection,
) -> None:
    """All of it, to its session alone, and nothing that has ended since."""
    mine, neighbours = await session(connection, "mine"), await session(connection, "neighbour")
    task = await running(
        connection, mine, needs="again-1", command="echo ü", env={"A": "1"}, cwd="/", timeout=5,
        no_output_timeout=3, exclusive=True, isolation="docker", image="i:1",
    )  # fmt: skip
    over = await running(connection, mine, needs="again-2")
    other = await running(connection, neighbours, needs="again-3")
    await result_store.finish_many(connection, [ended(over, mine, "succeeded", "exit")], 1)
    numbers = [other.id, over.id, task.id, 10**15]
    assert await store.redeliver(connection, mine, numbers) == [task]


@pytest.mark.parametrize("holds", [False, True])
async def test_a_wish_to_drain_is_told_with_what_is_held(
    connection: asyncpg.Connection, *, holds: bool
) -> None:
    """By the same look, of that session alone, and also where it holds nothing."""
    one, other = await session(connection, "drains"), await session(connection, "works on")
    if holds:
        await running(connection, one, needs="drain-held")
    assert await session_store.drain_agent(connection, "drains", "tester") == [one]
    held = await store.held_by_many(connection, [other, one])
    assert [(each.drain, len(each.tasks)) for each in held] == [(False, 0), (True, int(holds))]


async def test_a_claim_of_too_many_bytes_brings_the_first_few(
    connection: asyncpg.Connection,
) -> None:
    """A thousand tasks may have 0.7 MB each: what is over stays in the queue, in its order.

    The sizes are those before TOAST packs them.
    """
    owner = await session(connection)
    fields: list[dict[str, Any]] = [{"command": f": {'x' * 5000}"}, {"env": {"A": "x" * 5000}}]
    numbers = [await submit(connection, needs=("bytes",), **fields[turn % 2]) for turn in range(30)]
    lane = await lanes_of(connection, "bytes")
    floors = await store.queue_heads(connection, [lane])
    given: list[list[int]] = []
    for most_bytes in (100_000, 90_000, 45_000):
        claimed = await store.claim_many(connection, floors, [owner] * 90, most_bytes)
        given.append([task.id for _, _, task in sorted(claimed)])
    few = store.ALWAYS_FIT
    assert given == [numbers[:few], numbers[few : 2 * few], numbers[2 * few :]]


async def test_secrets_count_among_a_claims_bytes(connection: asyncpg.Connection) -> None:
    """They go into the reply, though they are stored apart: as the most that they may be."""
    owner = await session(connection)
    tasks = [
        Submission(command="true", needs=("bytes-secret",), secrets={"A": "x" * 5000})
        for _ in range(20)
    ]
    needs = needs_of(tasks[0])
    lane = await lanes_of(connection, *needs)
    seals = Seals([b"k" * 32])
    await task_store.submit_many(connection, tasks, {needs: lane}, [None] * 20, "tester", seals)
    floors = await store.queue_heads(connection, [lane])
    few = await store.claim_many(connection, floors, [owner] * 20, 19 * MAX_SECRET_BYTES)
    assert len(few) == store.ALWAYS_FIT


async def test_what_is_delivered_again_stops_at_the_same_bytes(
    connection: asyncpg.Connection,
) -> None:
    """What several claims gave and nobody received comes in as many beats."""
    mine = await session(connection)
    numbers = [
        (await running(connection, mine, needs=f"again-{size}", command=f": {'x' * size}")).id
        for size in (3000, 2000, 1000)
    ]
    again = await store.redeliver(connection, mine, numbers, 4000)
    assert [task.id for task in again] == numbers[:2]
    assert [task.id for task in await store.redeliver(connection, mine, numbers, 1)] == numbers[:1]
