"""What pages say of times, sizes and ends; where forms lead back to; the plot."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from api.console import plot as plots
from api.console import words
from api.console.places import inside
from schema.tasks import Attempt, Reason

_NOW = datetime(2026, 5, 17, 12, 30, 20, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.00 s"), (0.5164, "0.52 s"), (4.26, "4.3 s"), (59.6, "1 min"), (64, "1 min 4 s"),
        (3600, "1 h"), (11_520, "3 h 12 min"), (90_000, "1 d 1 h"), (-3, "0.00 s"),
    ],
)  # fmt: skip
def test_durations_have_two_parts_at_most(seconds: float, text: str) -> None:
    """A test that ran for hours and one that took no time stand in one column."""
    assert words.duration(seconds) == text


def test_times_are_relative_to_now() -> None:
    """Before it and after it."""
    for seconds, text in ((0.4, "now"), (12, "12 s ago"), (-200, "in 3 min"), (90_000, "1 d ago")):
        assert words.relative(_NOW - timedelta(seconds=seconds), _NOW) == text
    east = _NOW.astimezone()
    assert words.exact(east) == "2026-05-17 12:30:20 UTC"
    assert words.machine(east) == "2026-05-17T12:30:20.000Z"


def test_sizes_have_a_unit() -> None:
    """Decimal, as disks have them."""
    sizes = [words.size(number) for number in (0, 999, 1000, 512_000, 4_100_000, 2.7e9, 3e12)]
    assert sizes == ["0 B", "999 B", "1.0 kB", "512 kB", "4.1 MB", "2.7 GB", "3.0 TB"]


@pytest.mark.parametrize(
    ("reason", "fields", "text"),
    [
        ("exit", {"exit_code": 0}, ""), ("exit", {"exit_code": 3}, "exit 3"),
        ("signal", {"signal": 9}, "SIGKILL"), ("signal", {"signal": 63}, "signal 63"),
        ("timeout", {}, "timed out"), ("agent_lost", {}, "its agent was lost"), (None, {}, ""),
    ],
)  # fmt: skip
def test_an_end_is_told_in_words(reason: Reason | None, fields: dict[str, int], text: str) -> None:
    """Beyond the state, which stands beside it."""
    run = Attempt(attempt=1, agent=None, reason=reason, started_at=_NOW)
    run = msgspec.structs.replace(run, **fields)
    assert words.outcome(run) == text


@pytest.mark.parametrize(
    "place",
    ["/", "/console/tasks", "/console/tasks/17?attempt=2", "/console/group?name=a%2Fb", "/?x=1"],
)
def test_a_form_leads_back_into_the_console(place: str) -> None:
    """To where it stood."""
    assert inside(place) == place


@pytest.mark.parametrize(
    "place",
    [
        "", "//evil", "/\\evil", "https://evil", "/console/../..//evil\\", "/console/\nx", "/tasks",
        "javascript:alert(1)", "/\t/evil", "/console/é", "/console", "\\\\evil", "/login",
        "/console/" + "x" * 2000,
    ],
)  # fmt: skip
def test_a_form_leads_nowhere_else(place: str) -> None:
    """A link to our form must not end at somebody's copy of it."""
    assert inside(place) == "/"


def test_the_plot_has_an_hour_and_failures_on_the_ground() -> None:
    """Bars are as high as their minute had tasks; one failure among a thousand is seen."""
    full = _NOW.replace(second=0)
    counts = {
        full: {"succeeded": 999, "failed": 1},
        full - timedelta(minutes=59): {"cancelled": 500},
        full - timedelta(minutes=60): {"failed": 7},
    }
    plot = plots.plot(counts, _NOW)  # type: ignore[arg-type]  # literals
    assert len(plot.bars) == 60
    assert (plot.total, plot.most) == (1500, 1000)
    assert plot.totals == {"failed": 1, "cancelled": 500, "succeeded": 999}
    last = plot.bars[-1]
    assert last.text == "12:30 UTC: 999 succeeded, 1 failed"
    assert [piece.status for piece in last.pieces] == ["failed", "succeeded"]
    assert last.pieces[0].y + last.pieces[0].height == plots.HEIGHT
    assert last.pieces[0].height == 1.5
    assert plot.bars[0].pieces[0].height == plots.HEIGHT / 2
    assert plot.bars[1].text.endswith("nothing ended")


def test_an_hour_without_anything_is_a_plot_too() -> None:
    """The first minute of a new server."""
    assert plots.plot({}, _NOW).total == 0
