"""The load test's rules: each finds what it is for, and lets pass what may happen."""

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec
import pytest

from loadtest import invariants
from loadtest.reader import Answer
from loadtest.record import AttemptKey, Piece, Record, Violation
from schema.tasks import Attempt, Reason, Status, Task, TaskPage

_NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Told:
    """A server that says what the test wrote down, by path."""

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        self._answers = answers

    def ask(self, method: str, path: str, body: object = None) -> Answer:
        """Give what is written down, else 404."""
        return self._answers.get(path, Answer(404, {}, b""))


def ended(
    record: Record, task: int, attempt: int, outcome: Status = "succeeded", holder: str = "a"
) -> None:
    """Write down an attempt whose result was acknowledged."""
    one = record.given(task, attempt, holder)
    one.outcome, one.acknowledged = outcome, True


def task_of(number: int, status: Status = "succeeded", attempts: tuple[Attempt, ...] = ()) -> Task:
    """Make a task as the server tells of it."""
    return Task(
        id=number, status=status, command="true", priority=5, max_attempts=1, attempt=1,
        submitted_at=_NOW, attempts=attempts,
    )  # fmt: skip


def earlier(number: int, agent: str | None, reason: Reason | None = "agent_lost") -> Attempt:
    """Make an earlier attempt as the server tells of it."""
    return Attempt(attempt=number, agent=agent, reason=reason, started_at=_NOW)


def wheres(violations: list[Violation]) -> list[tuple[str, str]]:
    """What was found, without the words."""
    return [(one.rule, one.where) for one in violations]


def test_an_attempt_has_one_agent() -> None:
    """The same one again is a redelivery."""
    record = Record()
    for holder in ("a", "a"):
        record.given(1, 1, holder)
    assert list(invariants.claimed_twice(record)) == []
    record.given(1, 1, "b")
    assert wheres([*invariants.claimed_twice(record)]) == [("claimed twice", "task 1, attempt 1")]


def test_an_attempt_after_an_acknowledged_result() -> None:
    """An excuse does not help: the task was done."""
    record = Record()
    ended(record, 1, 1)
    record.excuse([(1, 1)], "its session was gone")
    assert list(invariants.ran_again(record, {})) == []
    record.given(1, 2, "b")
    assert wheres([*invariants.ran_again(record, {})]) == [("ran again", "task 1, attempt 2")]


def test_an_attempt_after_one_that_had_not_ended() -> None:
    """Its agent may still run it, unless its session was gone."""
    record = Record()
    record.given(1, 1, "a")
    record.given(1, 2, "b")
    assert wheres([*invariants.ran_again(record, {})]) == [("ran again", "task 1, attempt 2")]
    record.excuse([(1, 1)], "its session was gone")
    assert list(invariants.ran_again(record, {})) == []


def test_an_attempt_before_one_that_nobody_saw_needs_its_cause_too() -> None:
    """The second one is excused, the first had been acknowledged."""
    record = Record()
    ended(record, 1, 1)
    record.given(1, 3, "b")
    record.lost_claims["a"] = 1
    told = {(1, 2): earlier(2, "a")}
    assert wheres([*invariants.ran_again(record, told)]) == [("ran again", "task 1, attempt 2")]


@pytest.mark.parametrize(
    ("told", "excused"),
    [
        (earlier(1, "unlucky"), True),
        (earlier(1, "lucky"), False),  # another one's lost claim is no excuse
        (earlier(1, "regained"), False),  # its claims were answered in the end
        (earlier(1, "unlucky", "exit"), False),  # nobody ran it
        (earlier(1, "unlucky", None), False),
        (earlier(1, None), False),
        (None, False),
    ],
)
def test_an_attempt_that_nobody_saw(told: Attempt | None, *, excused: bool) -> None:
    """The answer to its claim was lost, and its session with it; else nobody was given it."""
    record = Record()
    record.lost_claims.update({"unlucky": 1, "regained": 0})
    record.given(1, 2, "b")
    assert invariants.unseen(record) == {(1, 1)}
    found = wheres([*invariants.ran_again(record, {(1, 1): told})])
    assert found == ([] if excused else [("ran again", "task 1, attempt 2")])


def test_what_the_compatible_routes_give_out_has_no_number() -> None:
    """Nothing was before it that could be missed."""
    record = Record()
    ended(record, 1, 0)
    assert invariants.unseen(record) == set()
    assert list(invariants.ran_again(record, {})) == []


def test_one_result_counts() -> None:
    """Whichever way it went."""
    record = Record()
    ended(record, 1, 1)
    ended(record, 2, 1)
    assert list(invariants.reported_twice(record)) == []
    ended(record, 2, 2, "failed")
    assert wheres([*invariants.reported_twice(record)]) == [("reported twice", "task 2")]


@pytest.mark.parametrize(
    ("status", "found"),
    [("succeeded", False), ("failed", True), ("in_progress", True), ("pending", True)],
)
def test_an_acknowledged_result_is_what_the_task_shows(status: Status, *, found: bool) -> None:
    """It was stored, or it was not acknowledged."""
    record = Record()
    ended(record, 1, 1)
    record.given(2, 1, "a")  # may be in any state
    wrong = wheres([*invariants.not_final(record, {1: status, 2: status})])
    assert wrong == ([("not final", "task 1, attempt 1")] if found else [])


def test_what_was_accepted_or_given_out_is_known() -> None:
    """One that was submitted, one that was claimed, and one that is there."""
    record = Record(submitted={1, 2})
    record.given(3, 1, "a")
    found = wheres([*invariants.lost(record, {1: "pending"})])
    assert found == [("lost", "task 2"), ("lost", "task 3")]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (b"onetwothree", None),
        (b"onethree", None),  # the second was sent, not acknowledged
        (b"onetwo", "chunk missing"),
        (b"", "chunk missing"),
        (b"oneTWOthree", "log differs"),
        (b"onetwothreefour", "log differs"),
    ],
)
def test_a_log_is_what_was_acknowledged(text: bytes, rule: str | None) -> None:
    """In its order, with nothing after it."""
    pieces = [
        Piece(6, (b"th", b"ree"), acknowledged=True),
        Piece(0, (b"one",), acknowledged=True),
        Piece(3, (b"two",)),
    ]
    found = invariants.compare_log(pieces, text)
    assert (found and found[0]) == rule


@pytest.mark.parametrize(
    ("attempt", "acknowledged", "state", "found"),
    [
        (1, True, "complete", False),
        (1, True, "missing", True),
        (1, False, "open", False),
        (0, True, "undeclared", False),
        (0, True, "complete", True),
    ],
)
def test_a_finished_log_calls_itself_whole(
    attempt: int, state: str, *, acknowledged: bool, found: bool
) -> None:
    """Legacy agents never say how much there is."""
    record = Record()
    one = record.given(1, attempt, "a")
    record.sending(one, "stdout", 0, b"text").acknowledged = True
    one.acknowledged = acknowledged
    path = f"/tasks/1/logs?stream=stdout{'&attempt=1' if attempt else ''}"
    reader = Told({path: Answer(200, {"log-state": state}, b"text")})
    size, wrong = invariants.check_log(record, reader, (1, attempt), "stdout")
    assert size == 4
    assert [one.rule for one in wrong] == (["log state"] if found else [])


def test_a_log_that_cannot_be_read_is_missing() -> None:
    """Whatever the status says."""
    record = Record()
    record.sending(record.given(1, 1, "a"), "stderr", 0, b"text")
    _, wrong = invariants.check_log(record, Told({}), (1, 1), "stderr")
    assert wheres(wrong) == [("chunk missing", "task 1, attempt 1, stderr")]


def test_a_sample_has_logs_only() -> None:
    """And is the same each time, so that a finding can be looked at again."""
    record = Record()
    keys: list[AttemptKey] = [(number, 1) for number in range(10)]
    for key in keys:
        record.sending(record.given(*key, "a"), "stdout", 0, b"text")
    record.given(10, 1, "a")
    assert invariants.sample(record, 10) == keys
    some = invariants.sample(record, 3)
    assert some == invariants.sample(record, 3)
    assert len(set(some)) == 3


def test_all_rules_are_applied() -> None:
    """Of one run: what was refused on the way, what the server says, and what it does not."""
    record = Record(submitted={1, 2})
    ended(record, 1, 1)
    record.refused("refused", (1, 1), "chunk: invalid")
    record.given(1, 3, "b")  # attempt 2 was given to nobody
    ended(record, 3, 1, "failed")
    record.sending(record.attempts[3, 1], "stdout", 0, b"text").acknowledged = True
    page = TaskPage((task_of(1), task_of(3)), None)
    one = task_of(1, attempts=(earlier(1, "a", "exit"), earlier(2, "c")))
    reader = Told(
        {
            "/tasks?id=1&id=2&id=3": Answer(200, {}, msgspec.json.encode(page)),
            "/tasks/1": Answer(200, {}, msgspec.json.encode(one)),
            "/tasks/3/logs?stream=stdout&attempt=1": Answer(200, {"log-state": "complete"}, b"tex"),
        }
    )
    findings = invariants.check(record, reader)
    assert (findings.attempts, findings.reported, findings.logs, findings.log_bytes) == (3, 2, 1, 3)
    assert wheres(findings.violations) == [
        ("chunk missing", "task 3, attempt 1, stdout"),
        ("lost", "task 2"),
        ("not final", "task 3, attempt 1"),
        ("ran again", "task 1, attempt 2"),
        ("ran again", "task 1, attempt 3"),
        ("refused", "task 1, attempt 1"),
    ]
