"""What a watcher of a group sees, from its events."""

from datetime import timedelta

import pytest
from rich.text import Text

from client.client import Client
from client.commands import watch_view
from client.commands.near import near_names
from client.commands.watch import _events_of
from client.looking import LOOK_S, looked_at
from client.rates import Rates, counters
from client.stuck import Stuck
from client.watching import Board, Failure, Tail
from schema.explain import NoAgent
from schema.logs import AttemptBegun, GroupNow, Output, Piece, TaskEnded, TaskNow
from schema.tasks import Group, Status, Stream
from tests.client.fake import NOW, Fake, event


def _piece(text: str, stream: Stream = "stdout", *, open_: bool = False) -> Piece:
    return Piece(stream=stream, offset=0, at_us=0, line=1, text=text, open=open_)


def _board(**counts: int) -> Board:
    known: dict[Status, int] = {"pending": 2} | counts  # type: ignore[assignment]
    group = Group(
        name="nightly", counts=known, total=sum(known.values()), submitted_at=NOW,
        finished_at=None, counted_at=NOW + timedelta(seconds=60),
    )  # fmt: skip
    return Board(group, NOW + timedelta(hours=1))


def _runs(task: int, attempt: int = 1, **fields: object) -> TaskNow:
    base: dict[str, object] = {
        "status": "in_progress", "agent": "farm-1", "cancel_requested": False, "reason": None,
        "run_after": None, "started_at": NOW + timedelta(seconds=50),
    }  # fmt: skip
    return TaskNow(task=task, attempt=attempt, **base | fields)  # type: ignore[arg-type]


def _end(task: int, status: Status = "failed", attempt: int = 1) -> TaskEnded:
    return TaskEnded(
        task=task, status=status, attempt=attempt, agent="farm-1", reason="exit",
        exit_code=3 if status == "failed" else 0, signal=None, message=None, started_at=NOW,
        finished_at=NOW, run_s=1.5,
    )  # fmt: skip


def test_the_last_lines_are_kept_and_no_more() -> None:
    """A task may write for hours: memory is bounded by five lines of each stream."""
    tail = Tail()
    tail.take(_piece("".join(f"line {number}\n" for number in range(10_000))))
    assert tail.lines == tuple(f"line {number}" for number in range(9995, 10_000))
    tail.take(_piece("x" * 100_000 + "\n"))
    assert max(map(len, tail.lines)) == 500


def test_a_line_that_is_not_over_is_seen_and_goes_on() -> None:
    """A prompt, or dots: what hangs is just that. The streams do not mix."""
    tail = Tail()
    tail.take(_piece("waiting for ", open_=True))
    tail.take(_piece("oops\n", "stderr"))
    assert tail.lines == ("oops", "waiting for")
    tail.take(_piece("device 3\n"))
    assert tail.lines == ("oops", "waiting for device 3")
    tail.take(_piece("no newline at the end"))
    assert "no newline at the end" in tail.lines


def test_of_a_progress_bar_the_last_state_is_seen() -> None:
    """It writes over its line again and again; empty lines tell nothing."""
    tail = Tail()
    tail.take(_piece("10%\r20%\r30%\r\n\n   \n"))
    assert tail.lines == ("30%",)


def test_a_failure_keeps_why_until_the_task_runs_again() -> None:
    """What failed stands there with its last lines; a retry takes it away."""
    board = _board()
    board.take(_runs(7))
    board.take(AttemptBegun(task=7, attempt=1, agent="farm-1", started_at=NOW))
    board.take(Output(7, 1, (_piece("a\nb\n"),)))
    board.take(_runs(7, status="failed"))
    assert board.running == {}
    board.take(_end(7))
    assert board.failures == {
        7: Failure(7, 1, "failed", "failed (exit 3)", "farm-1", 1.5, None, ("a", "b"))
    }
    board.take(_runs(7, 2))
    assert board.failures == {}
    assert list(board.running) == [7]
    board.take(_end(7, "succeeded", 2))
    assert (board.running, board.failures, board.tails) == ({}, {}, {})


def test_a_failure_is_not_forgotten_by_news_of_the_attempt_that_failed() -> None:
    """After a reconnection another API process may be a moment behind the end that was told."""
    board = _board()
    board.take(_end(7))
    board.take(_runs(7))
    board.take(_runs(7, status="failed"))
    assert list(board.failures) == [7]
    assert board.running == {}


def test_a_thousand_failures_are_kept() -> None:
    """A night in which everything fails must not fill the memory of whoever watches."""
    board = _board()
    for task in range(1, 1500):
        board.take(_end(task))
    assert len(board.failures) == 1000
    assert min(board.failures) == 500


def test_times_are_by_the_servers_clock() -> None:
    """This machine's clock may be an hour off."""
    board = _board()
    later = NOW + timedelta(hours=1, seconds=5)
    assert board.elapsed_s(later) == 65
    board.take(_runs(1))
    assert board.ran_s(board.running[1], later) == 15


def _view(board: Board, width: int, height: int) -> list[str]:
    lines = watch_view.board(board, NOW + timedelta(hours=1, seconds=5), width, height)
    assert len(lines) == height
    assert all(line.cell_len <= width for line in lines)
    return [line.plain for line in lines]


@pytest.mark.parametrize("height", [2, 5, 8, 24, 60])
@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_every_screen_is_filled_and_nothing_stands_outside(width: int, height: int) -> None:
    """Long names, wide characters, control characters, more tasks than lines."""
    board = _board(in_progress=50, failed=30)
    for task in range(1, 51):
        board.take(_runs(task))
        board.titles[task] = "日本語のとても長いテスト" * 3
        board.take(Output(task, 1, (_piece("\x1b[2J\x1b]0;evil\x07\tlast " + "long " * 100),)))
    for task in range(100, 130):
        board.titles[task] = "name " * 20
        board.take(Output(task, 1, (_piece("why\n"),)))
        board.take(_end(task))
    text = "\n".join(_view(board, width, height))
    assert "\x1b" not in text
    if height >= 24 and width >= 80:
        assert "running (50)" in text
        assert "not succeeded (30)" in text
        assert "│ why" in text


def test_running_and_failed_share_the_screen() -> None:
    """Neither pushes the other away; where one is short, the other has the room."""
    board = _board(in_progress=40)
    for task in range(40):
        board.take(_runs(task))
    alone = _view(board, 100, 24)
    assert sum("farm-1" in line for line in alone) == 18
    assert alone[-2] == "… and 22 more"
    for task in range(100, 140):
        board.take(_end(task))
    shared = _view(board, 100, 24)
    assert sum("failed (exit 3)" in line for line in shared) >= 8
    assert sum("farm-1   " in line for line in shared) >= 7
    assert "139" in next(line for line in shared if "failed (exit 3)" in line)


def test_an_outage_is_told_on_the_screen() -> None:
    """And goes with the next event."""
    board = _board()
    board.away = "cannot reach http://x (connection refused)"
    assert any("connection refused" in line for line in _view(board, 80, 10))
    board.take(GroupNow(name="nightly", total=2, counts={"pending": 2}))
    assert not any("refused" in line for line in _view(board, 80, 10))


def test_what_no_agent_can_take_is_told_on_the_screen_while_something_waits() -> None:
    """A screen where nothing happens must say why."""
    board = _board()
    why = NoAgent(text="No live agent has the label gpu.", missing=("gpu",), nearest=(), agents=2)
    board.stuck = (Stuck(7, others=False, why=why),)
    assert _view(board, 80, 10)[2] == "task 7 waits: no live agent has the label gpu"
    board.take(GroupNow(name="nightly", total=2, counts={"in_progress": 2}))
    assert not any("waits" in line for line in _view(board, 80, 10))


def test_a_task_that_runs_again_is_told_from_one_that_runs_the_first_time() -> None:
    """Its agent was lost, or it failed and may again: it just seems to begin."""
    board = _board(in_progress=2)
    board.take(_runs(7))
    board.take(_runs(8, 2))
    lines = _view(board, 100, 10)
    assert [("attempt 2" in line) for line in lines if "farm-1" in line] == [False, True]


@pytest.mark.parametrize("cells", [0, 1, 2, 3, 10, 77])
def test_a_bar_shows_whatever_is_there(cells: int) -> None:
    """One failure among ten thousand has its cell; the whole is as long as it should be."""
    counts: dict[Status, int] = {"succeeded": 9997, "failed": 1, "cancelled": 1, "in_progress": 1}
    pieces = list(watch_view.bar(counts, 10_000, cells))
    assert sum(len(text) for _, text in pieces) == cells
    if cells >= 10:
        assert [style for style, _ in pieces] == ["green", "red", "yellow", "cyan"]
        assert len({text[0] for _, text in pieces}) == 4  # also without colours
    halves = list(watch_view.bar({"failed": 1, "in_progress": 1}, 2, cells))
    assert [len(text) for _, text in halves] == [[], [1], [1, 1], [2, 1], [5, 5], [38, 39]][
        [0, 1, 2, 3, 10, 77].index(cells)
    ]


def test_what_a_task_wrote_is_plain() -> None:
    """No colour, link or command of it reaches the terminal."""
    written = "\x1b[31;1mred\x1b[0m \x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\ [bold]x[/bold]\x07"
    assert watch_view.plain(written) == Text("red link [bold]x[/bold]", style="not bold not dim")


async def test_a_group_too_large_to_follow_is_looked_at(
    fake: Fake, dw: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same events, but for output: what runs, what failed, that it is over."""
    monkeypatch.setattr("client.looking.LOOK_S", 0.001)
    assert LOOK_S > 1
    fake.add(group="g", status="in_progress", attempt=1)
    fake.add(group="g", status="failed", reason="exit", exit_code=1, attempt=1)
    fake.add(group="g", status="in_progress", attempt=1)
    told: list[tuple[str, int, str]] = []
    async for one in looked_at(dw, "g"):
        if isinstance(one, TaskNow):
            told.append(("now", one.task, one.status))
            fake.change(one.task, status="succeeded" if one.task == 1 else "failed")
        elif isinstance(one, TaskEnded):
            told.append(("end", one.task, one.status))
        elif isinstance(one, GroupNow):
            counts = one.counts
    assert counts == {"succeeded": 1, "failed": 2}
    assert told == [
        ("now", 1, "in_progress"),
        ("now", 3, "in_progress"),
        ("end", 2, "failed"),
        ("end", 3, "failed"),
        ("end", 1, "succeeded"),
    ]


async def test_what_fails_before_the_first_event_is_seen(fake: Fake, dw: Client) -> None:
    """The live log leaves out what has ended, so that it is asked for when that has begun."""
    fake.add(group="g", status="in_progress", attempt=1)
    fake.add(group="g", status="failed", reason="exit", exit_code=2, attempt=1)
    fake.log(2, "stdout", b"why\n", attempt=1)
    board = Board(await dw.group("g"), NOW)
    fake.change(1, status="failed", reason="exit", exit_code=3)
    fake.log(1, "stdout", b"because\n")
    now = GroupNow(name="g", total=2, counts={"failed": 2})
    fake.scripts = [[event("group", now), event("done", now, "1")]]
    async for _ in _events_of(dw, board):
        pass
    assert [(each.task, each.how, each.lines) for each in board.failures.values()] == [
        (1, "failed (exit 3)", ("because",)),
        (2, "failed (exit 2)", ("why",)),
    ]


def test_near_names() -> None:
    """First those that have it in them, then those that are spelt alike; three at most."""
    names = ["nightly-24", "nightly-23", "smoke", "nigthly-22", "nightly-21"]
    assert near_names("nightly", names) == ["nightly-24", "nightly-23", "nightly-21"]
    assert near_names("smok", names) == ["smoke"]
    assert near_names("smoek", names) == ["smoke"]
    assert near_names("zzz", names) == []


def test_rates_are_of_the_last_seconds_and_survive_a_restart() -> None:
    """A server that was started again counts from nothing: no rate is below it."""
    rates = Rates()
    assert rates.per_s is None
    for second in range(31):
        rates.add(second, {"ended": 5.0 * second if second <= 15 else 5 * 15 + 10 * (second - 15)})
    assert rates.per_s == {"ended": 10.0}
    rates.add(31, {"ended": 3.0})
    assert rates.per_s is None
    rates.add(32, {"ended": 4.0})
    assert rates.per_s == {"ended": 1.0}


def test_only_results_that_counted_are_counted() -> None:
    """A late result of a lost attempt ended nothing."""
    text = (
        "# TYPE dw_results_total counter\n"
        'dw_results_total{verdict="ok"} 7.0\ndw_results_total{verdict="stale"} 2.0\n'
    )
    assert counters(text) == {"submitted": 0, "started": 0, "ended": 7, "log_bytes": 0}
