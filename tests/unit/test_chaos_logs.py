"""The judge of logs: it passes what is right, and finds each byte that is not."""

from datetime import UTC, datetime

import pytest

from loadtest.chaos import logs
from loadtest.chaos.journal import Run
from loadtest.chaos.logs import Log
from loadtest.chaos.scripts import Script
from loadtest.chaos.viewers import Seen
from schema.tasks import Attempt, LogState, Reason, StreamLog

_SCRIPT = Script(number=0, kind="writer", seed=9, out=1000, err=50)
_WHOLE = _SCRIPT.content(1, "stdout")


def _judge(
    state: LogState,
    body: bytes,
    *missing: tuple[int, int],
    reason: Reason = "exit",
    code: int | None = 0,
    written: int = 0,
    ran: bool = True,
) -> str | None:
    attempt = Attempt(
        attempt=1, agent="a", reason=reason, exit_code=code, started_at=datetime.now(UTC)
    )
    run = Run(agent="a", start_s=1, code=code, written=(written, 0)) if ran else None
    wrong = logs.judge(_SCRIPT, attempt, run, Log("stdout", state, missing, body))
    return None if wrong is None else wrong[0]


def test_a_whole_log_passes() -> None:
    """Byte for byte."""
    assert _judge("complete", _WHOLE) is None


@pytest.mark.parametrize("at", [0, 500, 999])
def test_a_lost_byte_is_found(at: int) -> None:
    """At any place, the end too."""
    assert _judge("complete", _WHOLE[:at] + _WHOLE[at + 1 :]) in {"log differs", "log lost"}


def test_a_doubled_byte_is_found() -> None:
    """Or a whole chunk of them."""
    assert _judge("complete", _WHOLE + _WHOLE[-1:]) == "log differs"
    assert _judge("complete", _WHOLE[:100] + _WHOLE[50:]) == "log differs"


def test_pieces_out_of_order_are_found() -> None:
    """Nothing is missing then, and nothing is too much."""
    assert _judge("complete", _WHOLE[500:] + _WHOLE[:500]) == "log differs"


def test_the_log_of_another_attempt_or_stream_is_found() -> None:
    """It has the same length."""
    other = _SCRIPT.content(2, "stdout")
    assert len(other) == len(_WHOLE)
    assert _judge("complete", other) == "log differs"


def test_an_attempt_that_ended_by_itself_has_a_complete_log() -> None:
    """Its result was committed with its logs or after them, whatever befell its agent then."""
    assert _judge("undeclared", _WHOLE) == "log state"
    assert _judge("missing", _WHOLE[:900], (900, 1000)) == "log state"
    assert _judge("undeclared", _WHOLE[:900], reason="agent_lost", code=None) is None


@pytest.mark.parametrize("state", ["open", "expired", "damaged"])
def test_what_no_log_may_be_when_all_is_over(state: LogState) -> None:
    """However the attempt ended."""
    assert _judge(state, b"", reason="agent_lost", code=None) == "log state"


def test_a_killed_task_wrote_at_least_what_it_wrote_down() -> None:
    """More than by its last beat, perhaps; never more than there is."""

    def killed(body: bytes) -> str | None:
        return _judge("complete", body, reason="timeout", code=None, written=300)

    assert killed(_WHOLE[:300]) is None
    assert killed(_WHOLE[:340]) is None
    assert killed(_WHOLE[:299]) == "log lost"
    assert killed(_WHOLE + b"x") == "log differs"


def test_missing_ranges_are_those_that_are_missing() -> None:
    """The rest stands at its right place."""

    def lost(body: bytes, *missing: tuple[int, int]) -> str | None:
        return _judge("missing", body, *missing, reason="agent_lost", code=None)

    assert lost(_WHOLE[:100] + _WHOLE[200:700], (100, 200)) is None
    assert lost(_WHOLE[:100] + _WHOLE[200:700], (100, 200), (700, 1000)) is None
    assert lost(_WHOLE[:100] + _WHOLE[200:700], (101, 201)) == "log differs"
    assert lost(_WHOLE[:100] + _WHOLE[200:], (100, 300)) == "log differs"
    assert lost(_WHOLE[:100]) == "log state"
    assert _judge("complete", _WHOLE[:900], (900, 1000)) == "log state"


def test_what_never_ran_wrote_nothing() -> None:
    """A log of it is somebody else's."""
    assert _judge("complete", b"", reason="timeout", code=None, ran=False) is None
    assert _judge("complete", b"x", reason="timeout", code=None, ran=False) == "log differs"


def _seen(*pieces: tuple[int, bytes], told: int | None = None, state: LogState = "complete") -> str:
    """What is wrong with what a viewer was shown of the whole log; empty if nothing is."""
    seen = Seen()
    for offset, data in pieces:
        seen.take(offset, data)
    if told is not None:
        seen.told = StreamLog(state=state, bytes=told, lines=0, missing=())
    missing = () if state == "complete" else ((200, 300),)
    body = _WHOLE if state == "complete" else _WHOLE[:200] + _WHOLE[300:]
    wrong = logs.judge_seen(seen, Log("stdout", state, missing, body))
    return "" if wrong is None else wrong[1]


def test_a_viewer_is_shown_each_byte_once() -> None:
    """All of them, where the log was said to be over; else up to where he left."""
    first, rest = (0, _WHOLE[:400]), (400, _WHOLE[400:])
    assert not _seen(first, rest, told=1000)
    assert not _seen(first)
    assert "shown of 1000" in _seen(first, told=400)
    assert "announced" in _seen(first, told=1000)
    assert "came again" in _seen(first, (399, _WHOLE[399:]), told=1001)
    assert "are others" in _seen(first, (400, _WHOLE[401:] + b"x"), told=1000)


def test_a_viewer_is_shown_what_is_there_of_a_broken_log() -> None:
    """What was missing when he was told of it may have come later."""
    before, behind = (0, _WHOLE[:200]), (300, _WHOLE[300:])
    assert not _seen(before, behind, told=900, state="missing")
    assert not _seen(before, told=200, state="missing")
    assert "are others" in _seen((0, _WHOLE[1:201]), behind, told=900, state="missing")


def test_nothing_comes_when_all_was_shown() -> None:
    """A log that was called over is over."""
    seen = Seen()
    seen.told = StreamLog(state="complete", bytes=0, lines=0, missing=())
    seen.take(0, _WHOLE)
    assert logs.judge_seen(seen, Log("stdout", "complete", (), _WHOLE)) is not None
