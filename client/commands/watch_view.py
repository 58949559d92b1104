"""The full screen of `dw watch`: a board as lines of text. No I/O."""

from collections.abc import Iterator, Mapping
from datetime import datetime

from rich.text import Text

from client import render
from client.watching import Board, Failure, Runs
from schema.tasks import Status

_BAR: tuple[tuple[Status, str, str], ...] = (
    ("succeeded", "█", "green"),
    ("failed", "▓", "red"),
    ("cancelled", "▒", "yellow"),
    ("in_progress", "░", "cyan"),
)
"""Status, how it looks without colours, and with them."""

_COUNTS: tuple[tuple[Status, str, str], ...] = (
    ("succeeded", "succeeded", "green"),
    ("failed", "failed", "red"),
    ("cancelled", "cancelled", "yellow"),
    ("in_progress", "running", "cyan"),
    ("pending", "pending", ""),
    ("scheduled", "scheduled", ""),
)
_ID, _AGENT, _RAN, _HOW = 8, 14, 8, 18
_NAMES = (12, 28)
_LINES_OF_A_FAILURE = 3
_NARROW = 90
_STUCK = 3


def board(board: Board, now: datetime, width: int, height: int) -> list[Text]:
    """So many lines at most, none wider than the screen."""
    lines = [_head(board, now, width), _counts(board), Text()]
    if board.away is not None:
        away = f"the server does not answer: {render.one_line(board.away)}; trying again"
        lines.insert(2, Text(away, style="bold red"))
    if board.counts.get("pending"):
        lines[2:2] = [Text(each.text, style="yellow") for each in board.stuck[:_STUCK]]
    foot = Text("q quits; tasks keep running", style="dim")
    room = max(0, height - len(lines) - 1)
    lines += _body(board, now, width, room)
    lines = lines[: height - 1]
    lines += [Text()] * (height - 1 - len(lines))
    for line in (*lines, foot):
        line.no_wrap = True
        line.truncate(width, overflow="ellipsis")
    return [*lines, foot]


def named(board: Board, height: int) -> list[int]:
    """Tasks whose names may be on a screen so high."""
    return [*list(board.running)[:height], *list(board.failures)[-height:]]


def _head(board: Board, now: datetime, width: int) -> Text:
    name = Text(render.one_line(board.name), style="bold")
    name.truncate(max(10, width // 3), overflow="ellipsis")
    end = f" {board.ended:,} of {board.total:,}  {render.duration(board.elapsed_s(now))}"
    cells = width - name.cell_len - len(end) - 2
    line = name.append("  ")
    for style, text in bar(board.counts, board.total, max(0, cells)):
        line.append(text, style=style)
    return line.append(end)


def bar(counts: Mapping[Status, int], total: int, cells: int) -> Iterator[tuple[str, str]]:
    """Styles and pieces of a bar; what is there at all has a cell, as far as there are any."""
    there = [each for each in _BAR if counts.get(each[0])]
    told = used = 0
    for at, (status, glyph, style) in enumerate(there):
        told += counts[status]
        end = round(told * cells / max(1, total))
        most = cells - used - (len(there) - at - 1)
        width = min(most, max(1, end - used))
        if width > 0:
            yield style, glyph * width
            used += width
    if used < cells:
        yield "dim", "·" * (cells - used)


def _counts(board: Board) -> Text:
    line = Text()
    for status, word, style in _COUNTS:
        if count := board.counts.get(status, 0):
            line.append(f"{'  ' if line else ''}{count:,} {word}", style=style)
    return line


def _body(board: Board, now: datetime, width: int, room: int) -> list[Text]:
    """What runs, and what failed; where both are long, each has half."""
    failures = _failures(board, room)
    if failures and board.running:
        failures = [Text(), *failures]
    wanted = len(board.running) + 1 if board.running else 0
    for_failures = min(len(failures), max(room // 2, room - wanted))
    return [*_running(board, now, width, room - for_failures), *failures[:for_failures]]


def _running(board: Board, now: datetime, width: int, room: int) -> list[Text]:
    if not board.running or room < 2:  # noqa: PLR2004 - a title and one task
        return []
    some = list(board.running.values())
    fit = room - 1 if len(some) < room else room - 2
    lines = [Text(f"running ({len(some):,})", style="bold cyan")]
    lines += [_runs(board, each, now, width) for each in some[:fit]]
    if len(some) > fit:
        lines.append(Text(f"… and {len(some) - fit:,} more", style="dim"))
    return lines


def _runs(board: Board, runs: Runs, now: datetime, width: int) -> Text:
    ran = board.ran_s(runs, now)
    line = _columns(
        width,
        str(runs.task),
        board.titles.get(runs.task, ""),
        runs.agent or "",
        "" if ran is None else render.duration(ran),
    )
    if runs.attempt > 1:
        line.append(f"attempt {runs.attempt}  ", style="yellow")
    if runs.cancelling:
        line.append("being ended  ", style="yellow")
    tail = board.tails.get(runs.task)
    if tail is not None and tail.lines:
        line.append_text(plain(tail.lines[-1]))
    return line


def _failures(board: Board, room: int) -> list[Text]:
    """The newest first, as many as have room."""
    lines: list[Text] = []
    bad = len(board.failures)
    for failure in reversed(board.failures.values()):
        if len(lines) >= room:
            break
        lines += failure_lines(failure, board.titles.get(failure.task, ""))
    return [Text(f"not succeeded ({bad:,}), newest first", style="bold red"), *lines] if bad else []


def failure_lines(failure: Failure, title: str) -> list[Text]:
    """What failed, and why."""
    style = render.STYLES[failure.verdict]
    line = Text(f"{failure.task:>{_ID}}  ")
    line.append(f"{failure.how:{_HOW}}  ", style=style)
    line.append(title)
    if failure.agent:
        line.append(f"  on {render.one_line(failure.agent)}", style="dim")
    if failure.run_s is not None:
        line.append(f" after {render.duration(failure.run_s)}", style="dim")
    indent = " " * (_ID + 2)
    message = failure.message
    lines = [line, Text(f"{indent}{render.one_line(message)}")] if message else [line]
    shown = failure.lines[-_LINES_OF_A_FAILURE:]
    return lines + [Text(f"{indent}│ ", style="dim").append_text(plain(each)) for each in shown]


def _columns(width: int, number: str, name: str, agent: str, ran: str) -> Text:
    line = Text(f"{number:>{_ID}}  ")
    title = Text(render.one_line(name))
    least, most = _NAMES
    title.truncate(max(least, min(most, width // 4)), overflow="ellipsis", pad=True)
    line.append_text(title).append("  ")
    if width >= _NARROW:
        where = Text(render.one_line(agent), style="dim")
        where.truncate(_AGENT, overflow="ellipsis", pad=True)
        line.append_text(where).append("  ")
    return line.append(f"{ran:>{_RAN}}  ")


def plain(line: str) -> Text:
    """A line of a task without its colours: what it writes may not drive the terminal."""
    # rich knows only one of the two ends that the title of a window may have.
    text = Text.from_ansi(line.replace("\x07", "\x1b\\")).plain
    return Text(render.one_line(text), style="not bold not dim")
