"""The page and the plot of benchmarks: whatever a benchmark leaves out, they can be rendered."""

import xml.etree.ElementTree as ET
from typing import Any

import pytest

from benchmarks import plot, render
from benchmarks.sections import sections

_MACHINE = {
    "cpu": {"brand_raw": "a processor"}, "cores": 2, "memory_gib": 4, "system": "Linux",
    "release": "6", "file_system": "ext4", "python_version": "3.11", "packages": {"uvloop": "1"},
    "load_after": [0.1, 0.2, 0.3], "machine": "x86_64", "quick": False,
}  # fmt: skip
_CORES = {"client": 0.1, "agent": 0.5, "others": 0.0}


def _page(*benchmarks: dict[str, Any]) -> str:
    return render.page(
        {"datetime": "2026-03-01T10:00:00", "machine_info": _MACHINE, "benchmarks": benchmarks}
    )


def _one(name: str, file: str = "test_agent_echo.py", **info: Any) -> dict[str, Any]:
    return {
        "name": f"test_{name}",
        "fullname": f"benchmarks/{file}::test_{name}",
        "extra_info": info,
    }


def test_a_full_row_shows_everything() -> None:
    """Title and text are those of the file's docstring."""
    page = _page(
        _one(
            "echo",
            unit="tasks",
            per_s=1234,
            spread=0.1,
            p50_ms=1.5,
            p99_ms=2.5,
            log_mb_per_s=3.5,
            limit="xargs",
            limit_per_s=2468,
            of_limit=0.5,
            of_limit_range="0.4 to 0.6",
            cores=_CORES,
            facts={"peak": "143 MiB"},
        )
    )
    assert "## Agent, small tasks\n\nHow many" in page
    assert "| `echo` | 1,234 tasks | 0.1 | 1.5 | 2.5 | 3.5 | 0.5 | 0.1 / 0.5 / 0.0 |" in page
    assert "Limit of `echo`: 2,468 tasks per second (xargs); 0.4 to 0.6 of it" in page
    assert "| `echo` | peak | 143 MiB |" in page
    assert "The machine was calm" in page


@pytest.mark.parametrize(
    "info",
    [{}, {"cores": _CORES}, {"per_s": 7}, {"facts": {"a": "b | c"}}, {"p50_ms": 1}, {"new": [1]}],
    ids=" ".join,
)
def test_what_is_missing_or_unknown_breaks_nothing(info: dict[str, Any]) -> None:
    """Benchmarks of latencies have no rate, those of memory have facts only."""
    both = [_one("odd", **info), _one("lost", file="test_that_is_gone.py")]
    page = _page(*both)
    assert "## That is gone" in page
    ET.fromstring(plot.svg(sections(both)))


def test_empty_columns_are_left_out() -> None:
    """A table of latencies alone stays narrow."""
    page = _page(_one("start", p50_ms=7.2, cores=_CORES), _one("more", cores={"client": 1}))
    assert "| benchmark | p50 ms | cores: client / agent / others |" in page
    assert "| `more` |  | 1 / - / - |" in page


def test_products_are_compared_group_by_group() -> None:
    """The system stands for the benchmark's name."""
    page = _page(
        _one("a", group="no-op tasks", system="this | 0.1", per_s=2, unit="tasks"),
        _one("b", group="no-op tasks", system="other 3.2", per_s=1, unit="tasks"),
    )
    assert "### no-op tasks\n\n| system | per second |" in page
    assert r"| this \| 0.1 | 2 tasks |" in page


def test_the_plot_names_no_host_and_runs_no_script() -> None:
    """It is shown inside other people's pages."""
    drawn = plot.svg(sections([_one("a[<&>]", of_limit=1.4), _one("b", of_limit=0.01)]))
    names = [element.tag.rpartition("}")[2] for element in ET.fromstring(drawn).iter()]
    assert names.count("rect") == 2
    assert "script" not in names
    assert "href" not in drawn
