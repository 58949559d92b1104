"""What the agent decides without asking anybody: what to claim, what it has seen, what to send."""

import asyncio
import random

import msgspec
import pytest

from agent.api_client import Backoff, calm_s, report_s
from agent.attempts import Attempts
from agent.claims import Pace, wanted
from agent.outbox import ALONE_S, Outbox
from agent.parcels import LARGE_BYTES, Delivery
from agent.settings import Settings, SettingsError, read, task_environment
from agent.spool import Kept
from agent.spooler import Spooler
from agent.streams import Cut
from api.settings import Settings as ApiSettings
from schema.claims import ClaimedTask
from schema.reports import Result
from schema.tasks import Stream


def task(number: int, attempt: int = 1) -> ClaimedTask:
    """Make a claimed task."""
    return ClaimedTask(id=number, attempt=attempt, lease=f"{number}.{attempt}", command="true")


@pytest.mark.parametrize(
    ("slots", "running", "queued", "ahead", "result"),
    [
        (16, 0, 0, 0, (16, 0)),
        (16, 15, 0, 0, (1, 0)),
        (16, 16, 0, 0, (0, 0)),
        (16, 0, 16, 0, (0, 0)),
        (16, 16, 0, 16, (0, 16)),
        (16, 16, 8, 16, (0, 8)),
        (16, 16, 9, 16, (0, 0)),  # half of what is ahead is left: wait, and ask for more at once
        (16, 10, 0, 16, (6, 16)),
        (1, 1, 0, 1, (0, 1)),
        (1, 1, 1, 1, (0, 0)),
        (16, 4, 4, 16, (8, 16)),
        (4, 4, 9, 0, (0, 0)),  # tasks turned out long: what is queued is too much already
        (10_000, 0, 0, 0, (1000, 0)),
    ],
)
def test_how_many_tasks_are_asked_for(
    slots: int, running: int, queued: int, ahead: int, result: tuple[int, int]
) -> None:
    """As many as there is room for; with tasks ahead, many at a time."""
    assert wanted(slots, running, queued, ahead) == result


def test_tasks_are_claimed_ahead_only_while_they_are_short() -> None:
    """A farm of long tests must not hoard what others could run."""
    pace = Pace()
    assert not pace.ahead(16, [])
    pace.observe(0.01)
    assert pace.ahead(16, []) == 160  # a tenth of a second's work
    assert not pace.ahead(16, [30, 0.1, 30])  # those that run now are long
    assert pace.ahead(16, [0.1, 3600, 0.1, 0.1])  # one is, the others get through
    pace.observe(3600)
    for _ in range(10):
        pace.observe(0.01)
    assert pace.ahead(16, [])


async def test_what_arrives_wakes_as_many_slots() -> None:
    """All sixteen would look for one task; and one that is cancelled must not swallow a wake-up."""
    book = Attempts()
    slots = [asyncio.ensure_future(book.arrival()) for _ in range(3)]
    await asyncio.sleep(0)
    slots[0].cancel()
    book.receive([task(1)], "s", 0)
    await slots[1]
    await asyncio.sleep(0)
    assert not slots[2].done()
    book.receive([task(2), task(3)], "s", 0)
    await slots[2]


def test_each_attempt_is_taken_once() -> None:
    """Claims, beats and late replies may all bring the same."""
    book = Attempts()
    assert [one.key for one in book.receive([task(1), task(2)], "s", 0)] == [(1, 1), (2, 1)]
    assert book.receive([task(2), task(1)], "s", 0) == []
    first = book.start_next()
    assert first is not None
    book.ran(first)
    book.forget(first.key)
    assert book.receive([task(1)], "s", 0) == []
    assert [one.key for one in book.receive([task(1, 2)], "s", 0)] == [(1, 2)]
    assert book.held_for("s") == ((2, 1), (1, 2))
    assert book.held_for("another") == ()


def test_memory_of_what_was_seen_is_bounded() -> None:
    """An agent lives for months."""
    book = Attempts(seen_limit=2)
    for number in range(5):
        for one in book.receive([task(number)], "s", 0):
            book.start_next()
            book.ran(one)
            book.forget(one.key)
    assert book.receive([task(4), task(3)], "s", 0) == []
    assert len(book.receive([task(0)], "s", 0)) == 1


def test_what_was_handed_back_is_not_taken_from_a_late_reply() -> None:
    """A beat may have been answered before the task was handed back: others have it by now."""
    book = Attempts()
    (one,) = book.receive([task(1)], "s", 0)
    book.unqueue(one)
    book.forget(one.key)
    assert book.receive([task(1)], "s", 0) == []


def test_a_new_session_may_reuse_numbers() -> None:
    """A developer's database is made anew; what still runs of the old one is not mixed up."""
    book = Attempts()
    book.receive([task(1), task(2)], "old", 0)
    one = book.start_next()
    book.forget((2, 1))
    book.queued.clear()
    book.new_session()
    assert [each.key for each in book.receive([task(1), task(2)], "new", 0)] == [(2, 1)]
    assert one is not None
    book.ran(one)
    book.forget(one.key)
    assert len(book.receive([task(1)], "new", 0)) == 1


def test_a_slot_that_rests_is_not_free() -> None:
    """Or its tasks would wait for it where others could run them."""
    book = Attempts()
    with book.rest(), book.rest():
        assert book.resting == 2
        book.changed.clear()
    assert book.resting == 0
    assert book.changed.is_set()


async def test_a_result_goes_with_or_after_its_last_chunk() -> None:
    """Committed first, it would let people read a log with a hole."""
    outbox = Outbox(10_000, lambda full: None, Spooler(None, 0))
    delivery = Delivery((1, 1), "1.1")
    for offset in (0, 3):
        outbox.add(delivery, [("stdout", Cut(offset, 3, [b"abc"], [(0, 1)], Kept()))])
    outbox.finish(delivery, Result(lease="1.1", reason="exit", exit_code=0))
    first = await outbox.take(1, 10)
    second = await outbox.take(1, 10)
    assert [len(first), len(second)] == [1, 1]
    outbox.settle_chunk(second.parcels[0])
    outbox.put_back(first)
    for batch in (first, second):
        outbox.request_over(batch)
    both = await outbox.take(10_000, 10)
    assert both.parcels == first.parcels
    assert both.parcels[0].record.chunk.resent
    assert both.deliveries == [delivery]
    outbox.settle_chunk(both.parcels[0])
    assert not outbox.empty
    outbox.settle_result(delivery)
    assert outbox.empty
    assert outbox.memory.bytes == 0
    outbox.close()


async def test_the_oldest_is_sent_first() -> None:
    """A chatty task does not hold up what was there before it."""
    outbox = Outbox(10_000, lambda full: None, Spooler(None, 0))
    quiet, chatty = Delivery((1, 1), "1.1"), Delivery((2, 1), "2.1")
    outbox.add(quiet, [("stderr", Cut(0, 1, [b"q"], [(0, 1)], Kept()))])
    for offset in range(5):
        outbox.add(chatty, [("stdout", Cut(offset, 1, [b"c"], [(0, 2)], Kept()))])
    batch = await outbox.take(10_000, 2)
    assert [parcel.delivery for parcel in batch.parcels] == [quiet, chatty]
    outbox.put_back(batch)
    outbox.request_over(batch)
    batch = await outbox.take(10_000, 3)
    assert [parcel.delivery for parcel in batch.parcels] == [quiet, chatty, chatty]
    outbox.close()


async def test_small_batches_leave_one_at_a_time_and_large_ones_beside_them() -> None:
    """Each small one costs the API a transaction: what piles up meanwhile goes together."""
    outbox = Outbox(10 * LARGE_BYTES, lambda full: None, Spooler(None, 0))
    delivery = Delivery((1, 1), "1.1")
    outbox.add(delivery, [("stdout", Cut(0, 1, [b"a"], [(0, 1)], Kept()))])
    small = await outbox.take(LARGE_BYTES, 10)
    outbox.add(delivery, [("stdout", Cut(1, 1, [b"b"], [(0, 2)], Kept()))])
    async with asyncio.TaskGroup() as group:
        later = group.create_task(outbox.take(LARGE_BYTES, 10))
        await asyncio.sleep(0)
        assert not later.done()
        outbox.request_over(small)
        assert [parcel.record.chunk.offset for parcel in (await later).parcels] == [1]
    noise = random.Random(1).randbytes(LARGE_BYTES)
    outbox.add(delivery, [("stdout", Cut(2, len(noise), [noise], [(0, 3)], Kept()))])
    assert len(await outbox.take(2 * LARGE_BYTES, 10)) == 1
    outbox.close()


async def test_a_small_batch_that_is_stuck_does_not_hold_up_the_others() -> None:
    """A connection that hangs takes seconds to be given up; the others' logs should not."""
    now_s = 0.0
    outbox = Outbox(10 * LARGE_BYTES, lambda full: None, Spooler(None, 0), lambda: now_s)
    delivery = Delivery((1, 1), "1.1")

    def write(offset: int) -> None:
        outbox.add(delivery, [("stdout", Cut(offset, 1, [b"a"], [(0, 1)], Kept()))])

    write(0)
    stuck = await outbox.take(LARGE_BYTES, 10)
    write(1)
    now_s = ALONE_S - 0.01
    async with asyncio.TaskGroup() as group:
        later = group.create_task(outbox.take(LARGE_BYTES, 10))
        await asyncio.sleep(0)
        assert not later.done()
        now_s = ALONE_S  # it wakes by its own timer: nothing tells it
        second = await asyncio.wait_for(later, 10)
        write(2)
        later = group.create_task(outbox.take(LARGE_BYTES, 10))
        await asyncio.sleep(0)
        assert not later.done()  # the second is alone in its turn
        outbox.request_over(second)
        third = await asyncio.wait_for(later, 10)
    assert [batch.parcels[0].record.chunk.offset for batch in (stuck, second, third)] == [0, 1, 2]
    outbox.close()


async def test_what_was_cut_together_leaves_together_in_the_order_of_cutting() -> None:
    """A small chunk needs no thread: sent before the large one, its lines are seen too early."""
    outbox = Outbox(10 * LARGE_BYTES, lambda full: None, Spooler(None, 0))
    delivery, other = Delivery((1, 1), "1.1"), Delivery((2, 1), "2.1")
    large = b"x" * 400_000
    outbox.add(
        delivery,
        [
            ("stdout", Cut(0, len(large), [large], [(0, 1)], Kept())),
            ("stderr", Cut(0, 1, [b"e"], [(0, 2)], Kept())),
        ],
    )
    outbox.add(delivery, [("stderr", Cut(1, 1, [b"f"], [(0, 3)], Kept()))])
    outbox.add(other, [("stdout", Cut(0, 1, [b"o"], [(0, 1)], Kept()))])
    before = await outbox.take(1_000, 10)
    assert [parcel.delivery for parcel in before.parcels] == [other]  # it need not wait
    outbox.request_over(before)
    await outbox.keep_all()
    batch = await outbox.take(1, 10)
    assert [(parcel.stream, parcel.record.chunk.offset) for parcel in batch.parcels] == [
        ("stdout", 0), ("stderr", 0),
    ]  # fmt: skip
    outbox.close()


async def test_the_other_stream_waits_for_what_is_under_way() -> None:
    """A large batch and a small one fly side by side: who watches would see the small one first."""
    outbox = Outbox(10 * LARGE_BYTES, lambda full: None, Spooler(None, 0))
    chatty, other = Delivery((1, 1), "1.1"), Delivery((2, 1), "2.1")
    noise = random.Random(1).randbytes(LARGE_BYTES)

    def write(delivery: Delivery, stream: Stream, offset: int, data: bytes) -> None:
        outbox.add(delivery, [(stream, Cut(offset, len(data), [data], [(0, 1)], Kept()))])

    write(chatty, "stdout", 0, noise)
    large = await outbox.take(1, 10)
    write(chatty, "stdout", len(noise), b"same stream\n")
    write(chatty, "stderr", 0, b"why\n")
    write(chatty, "stdout", len(noise) + 12, b"behind it\n")
    write(other, "stderr", 0, b"other\n")
    beside = await outbox.take(10_000, 10)
    assert [(parcel.delivery, parcel.stream) for parcel in beside.parcels] == [
        (chatty, "stdout"), (other, "stderr"),
    ]  # fmt: skip
    for batch in (large, beside):
        for parcel in batch.parcels:
            outbox.settle_chunk(parcel)
        outbox.request_over(batch)
    rest = await outbox.take(10_000, 10)
    assert [parcel.stream for parcel in rest.parcels] == ["stderr", "stdout"]
    outbox.close()


def test_a_report_may_take_as_long_as_its_size_asks_for() -> None:
    """A small one that hangs is sent again soon; a large one has time on a slow line."""
    assert report_s(700) == pytest.approx(10.01)
    assert report_s(8 * 1024 * 1024) == pytest.approx(129.8, abs=0.1)


def test_what_brings_nothing_is_not_asked_in_a_circle() -> None:
    """After a full park there is no pause at all."""
    assert calm_s(0.0) == 0.25
    assert calm_s(0.2) == pytest.approx(0.05)
    assert calm_s(20.0) == 0.0


async def test_full_and_room_again_are_told_once() -> None:
    """Pausing and resuming every reader for each chunk would cost more than it brings."""
    told: list[bool] = []
    outbox = Outbox(1_000, told.append, Spooler(None, 0))
    delivery = Delivery((1, 1), "1.1")
    for offset in range(6):
        outbox.add(delivery, [("stdout", Cut(offset, 1, [b"c"], [(0, 1)], Kept()))])
    assert told == [True]
    batch = await outbox.take(10_000, 10)
    for parcel in batch.parcels:
        outbox.settle_chunk(parcel)
    assert told == [True, False]
    outbox.close()


def test_waiting_grows_and_is_bounded() -> None:
    """With full jitter: agents that lost the API together do not come back together."""
    backoff = Backoff(random.Random(1))
    waits = [backoff.next_s() for _ in range(2000)]
    assert max(waits[:3]) <= 0.4
    assert 4.9 < max(waits) <= 5
    assert min(waits[10:]) < 0.1
    assert 7 <= backoff.next_s(7) <= 12
    backoff.reset()
    assert backoff.next_s() <= 0.1


def test_settings_come_from_the_environment() -> None:
    """Empty means not set."""
    settings = read({"FLUSH_S": "0.5", "PREFETCH": "0", "LABELS": "a,b=c ,", "AGENT_NAME": ""})
    assert (settings.flush_s, settings.prefetch, settings.labels) == (0.5, 0, ("a", "b=c"))
    assert settings.agent_name


@pytest.mark.parametrize(
    ("environ", "word"),
    [
        ({"CHUNK_BYTES": "2000000"}, "CHUNK_BYTES"),
        ({"LOG_LEVEL": "loud"}, "LOG_LEVEL"),
        ({"API_URL": "http://user:pass@host"}, "TOKEN"),
        ({"API_URL": "https://host/t/dw_0123456789"}, "put it in TOKEN"),
        ({"CA_FILE": "/nowhere/ca.pem"}, "CA_FILE='/nowhere/ca.pem'"),
        ({"AGENT_NAME": "a\nb"}, "AGENT_NAME"),
    ],
)
def test_a_bad_setting_is_named(environ: dict[str, str], word: str) -> None:
    """With the variable's own name, as people wrote it."""
    with pytest.raises(SettingsError, match=word):
        read(environ)


def test_secrets_stay_with_the_agent() -> None:
    """They are not printed, and tasks do not inherit them."""
    with pytest.raises(SettingsError) as caught:
        read({"TOKEN": "s3cret with blanks"})
    assert "s3cret" not in str(caught.value)
    with pytest.raises(SettingsError) as caught:
        read({"API_URL": "https://host/t/dw_0123456789"})
    assert "0123456789" not in str(caught.value)


def test_tasks_inherit_nothing_that_opens_the_api() -> None:
    """An agent may be started from the API's own environment: by hand, by one service file.

    A new setting of either has to be one of these, or open nothing.
    """
    opens_nothing = {
        "HOST", "PORT", "WORKERS", "DATA_DIR", "TLS_CERT", "POOL_SIZE", "LEASE_S", "REAPER_S",
        "PULLED_SILENCE_S", "CRASH_LIMIT", "MAX_BODY_BYTES", "MAX_SMALL_BODY_BYTES",
        "MAX_JSON_VALUES", "MAX_TASKS", "MAX_HEADER_BYTES", "HEADER_S", "BODY_S", "BODY_PAUSE_S",
        "INFLATE_S", "MAX_BODIES_BYTES", "MAX_QUEUE_BYTES", "MAX_REQUESTS", "MAX_PARKED",
        "MAX_LOG_BYTES", "MAX_LOG_READS", "SUBMISSIONS_PER_MINUTE", "MAX_LANES", "MAX_VIEWERS",
        "MAX_VIEWERS_PER_TOKEN", "LOG_DAYS", "AUDIT_DAYS", "LOG_LEVEL",
        "API_URL", "AGENT_NAME", "LABELS", "ISOLATION", "NETWORK", "READABLE", "WRITABLE", "IMAGE",
        "IMAGES", "DOCKER", "ALLOW", "ALLOW_ENV", "KEEP_WORK", "MIN_DISK_FREE", "TASK_MEMORY",
        "TASK_CPUS", "TASK_PROCESSES", "TASK_FILES", "CA_FILE", "STATE_DIR", "FLUSH_S",
        "CHUNK_BYTES", "BUFFER_BYTES", "SPOOL_BYTES", "KILL_GRACE_S", "PIPE_WAIT_S", "DRAIN_S",
        "PREFETCH",
    }  # fmt: skip
    of_the_api = {name.upper() for name in ApiSettings.__struct_fields__}
    of_the_agent = {field.encode_name for field in msgspec.structs.fields(Settings)}
    of_the_driver = {"PGPASSWORD", "PGPASSFILE"}
    everything = of_the_api | of_the_agent | of_the_driver | {"PATH"}
    inherited = task_environment({name.encode(): b"x" for name in everything})
    assert {name.decode() for name in inherited} == opens_nothing | {"PATH"}
