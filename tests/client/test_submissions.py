"""What people write, and what is told back to them."""

from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest

from client import render
from client.commands.submit import ranges
from client.outcome import exit_code, exit_like, verdict
from client.settings import load
from client.submissions import (
    BadInputError,
    command_line,
    from_lines,
    moment,
    numbered_keys,
    seconds,
    variables,
)
from schema.tasks import StreamLog, Submission, Task

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def _task(**fields: object) -> Task:
    base = {"id": 1, "status": "failed", "command": "x", "priority": 5, "max_attempts": 1}
    return msgspec.convert(base | {"attempt": 1, "submitted_at": NOW} | fields, Task)


def test_one_word_is_a_shell_line_and_several_stay_words() -> None:
    """A pipe works in one word, and an argument with a space survives in several."""
    assert command_line(["a | b $HOME"]) == "a | b $HOME"
    assert command_line(["grep", "two words", "$HOME"]) == "grep 'two words' '$HOME'"


@pytest.mark.parametrize(
    ("text", "value"),
    [("90", 90), ("0.5", 0.5), ("30s", 30), ("5m", 300), ("2h", 7200), ("1h30m", 5400)],
)
def test_durations(text: str, value: float) -> None:
    """As people write them."""
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "0", "-3", "5x", "m5", "1h 30m", "inf", "nan", "1e999"])
def test_no_durations(text: str) -> None:
    """Never taken for something else."""
    with pytest.raises(BadInputError):
        seconds(text)


def test_moments() -> None:
    """A time keeps its offset, is local without one, and a duration counts from now."""
    here = NOW.astimezone(timezone(timedelta(hours=2)))
    assert moment("2026-12-24T18:00+01:00", here).isoformat() == "2026-12-24T18:00:00+01:00"
    assert moment("2026-12-24T18:00", here).utcoffset() == timedelta(hours=2)
    assert moment("10m", here) == here + timedelta(minutes=10)
    with pytest.raises(BadInputError, match="tomorrow"):
        moment("tomorrow", here)


def test_variables() -> None:
    """The value may hold an equals sign; a bare name takes the value from here."""
    assert variables(["A=1=2", "B=", "HOME"], {"HOME": "x"}) == {"A": "1=2", "B": "", "HOME": "x"}
    for word in ("=1", "NOWHERE"):
        with pytest.raises(BadInputError):
            variables([word], {})


def test_a_file_mixes_shell_lines_and_objects_and_options_are_defaults() -> None:
    """A line's own fields win, variable by variable."""
    lines = [
        "# tests",
        "",
        "  echo one  ",
        '{"command": "two", "priority": 9, "env": {"B": "own"}, "no_output_timeout": 5}',
    ]
    defaults = {"priority": 1, "env": {"A": "a", "B": "b"}, "needs": ("x",)}
    one, two = from_lines(lines, defaults)
    assert one == Submission(command="echo one", priority=1, env={"A": "a", "B": "b"}, needs=("x",))
    own = {"A": "a", "B": "own"}
    two_wanted = Submission(command="two", priority=9, env=own, needs=("x",), no_output_timeout=5.0)
    assert two == two_wanted


def test_secrets_of_a_line_win_over_those_of_all() -> None:
    """As its variables do."""
    lines = ['{"command": "a", "secrets": {"B": "its own one"}}', "b"]
    one, two = from_lines(lines, {"secrets": {"A": "for all", "B": "for all"}})
    assert one.hidden == {"A": "for all", "B": "its own one"}
    assert two.hidden == {"A": "for all", "B": "for all"}


def test_what_was_not_asked_for_is_not_sent_to_servers_that_do_not_know_it() -> None:
    """They refuse unknown fields: a newer dw must still be able to submit to them."""
    sent = msgspec.json.encode(Submission(command="x"))
    assert not any(
        name in sent for name in (b"no_output_timeout", b"isolation", b"image", b"secrets")
    )


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"comand": "x"}', "comand"),
        ('{"command": ""}', "command"),
        ("{ echo; }", "JSON object"),
        ('{"command": "x", "env": 5}', "env"),
    ],
)
def test_a_bad_line_is_named(line: str, why: str) -> None:
    """Among thousands, the number is what helps."""
    with pytest.raises(BadInputError, match=rf"^line 2: .*{why}"):
        list(from_lines(["true", line], {"env": {"A": "a"}}))


def test_one_key_for_many_tasks_is_numbered() -> None:
    """The same file submitted again finds the same tasks."""
    tasks = [Submission(command="a"), Submission(command="b", key="own")]
    assert [task.key for task in numbered_keys(tasks, "k")] == ["k.1", "own"]
    assert [task.key for task in numbered_keys(tasks[:1], "k")] == ["k"]
    assert [task.key for task in numbered_keys(tasks, None)] == [None, "own"]


def test_ids_are_told_as_ranges() -> None:
    """Ten thousand ids fit on a line."""
    assert ranges([3, 1, 2, 7]) == "1-3, 7"
    assert ranges(range(1, 10_001)) == "1-10000"
    assert ranges(range(1, 100, 2)) == "1, 3, 5, 7, ..., 93, 95, 97, 99"


def test_exit_codes_of_waits_by_weight() -> None:
    """A real failure outweighs lost machines, these outweigh cancellations."""
    assert exit_code([]) == 0
    assert exit_code(["succeeded", "cancelled"]) == 4
    assert exit_code(["cancelled", "infrastructure"]) == 3
    assert exit_code(["infrastructure", "failed", "cancelled"]) == 1
    assert verdict(_task(reason="agent_lost")) == "infrastructure"
    assert verdict(_task(status="pending")) is None


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"status": "succeeded", "reason": "exit", "exit_code": 0}, 0),
        ({"reason": "exit", "exit_code": 7}, 7),
        ({"reason": "exit", "exit_code": 256}, 1),
        ({"reason": "signal", "signal": 9}, 137),
        ({"reason": "timeout", "signal": 15}, 124),
        ({"reason": "agent_lost"}, 125),
        ({"status": "cancelled", "reason": "cancelled"}, 125),
    ],
)
def test_following_ends_like_the_command(fields: dict[str, object], code: int) -> None:
    """And never with success where there was none."""
    assert exit_like(_task(**fields)) == code


def test_text_for_people() -> None:
    """Figures in the unit that fits, and nothing that drives a terminal."""
    assert [render.duration(s) for s in (0, 9.996, 59.96, 3599.6, 7800, 2 * 86400 + 3600 * 5)] == [
        "0.00 s", "10.0 s", "1m00s", "1h00m", "2h10m", "2d05h",
    ]  # fmt: skip
    assert [render.size(n) for n in (0, 999, 1000, 1234, 45_600_000, 10**15)] == [
        "0 B", "999 B", "1.0 kB", "1.2 kB", "46 MB", "1000.0 TB",
    ]  # fmt: skip
    assert render.one_line("a\nb\x1b[31mred\x9bx") == "a b [31mred x"
    assert render.age(NOW, NOW + timedelta(minutes=90)) == "1h"
    assert render.status(_task(reason="exit", exit_code=3)) == "failed (exit 3)"
    log = StreamLog(state="missing", bytes=5, lines=1, missing=((3, 8),))
    assert render.log_line(log) == "missing, 5 B, 1 line; bytes 3-7 never arrived"


def test_settings_come_from_the_environment() -> None:
    """An empty value is as none; host:port is enough."""
    assert load({}).url == "http://127.0.0.1:3000"
    assert load({"API_URL": "farm:80/", "TOKEN": ""}) == load({"API_URL": "http://farm:80"})
    assert load({"TOKEN": "t"}).token == "t"
    assert load({"CA_FILE": "ca.pem"}).ca_file == "ca.pem"
