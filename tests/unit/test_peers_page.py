"""The page of peers: who is faster, and what a reader must know to believe it."""

from typing import Any

from benchmarks.peers import render

_MACHINE = {
    "cpu": {"brand_raw": "a processor"}, "cores": 2, "memory_gib": 4, "system": "Linux",
    "release": "6", "file_system": "ext4", "python_version": "3.11", "packages": {"uvloop": "1"},
    "load_after": [0.1, 0.2, 0.3], "machine": "x86_64", "quick": True,
}  # fmt: skip


def _page(*systems: dict[str, Any]) -> str:
    benchmarks = [
        {
            "name": "test_echo[one]",
            "fullname": "benchmarks/peers/test_echo.py::test_echo[one]",
            "extra_info": {"group": "Echo", "spread": 0.1, "unit": "tasks"} | each,
        }
        for each in systems
    ]
    return render.page(
        {"datetime": "2026-03-01T10:00:00", "machine_info": _MACHINE, "benchmarks": benchmarks}
    )


def test_the_ratio_is_ours_by_theirs() -> None:
    """A faster peer is not hidden: its ratio is below 1."""
    cores = {"client": 0.1, "others": 0.0}
    page = _page(
        {"system": "distributed-worker, so", "per_s": 1000, "cores": cores, "facts": {"a": "b"}},
        {"system": "faster 1.2", "per_s": 4000, "cores": cores | {"workers": 1}, "facts": {}},
        {"system": "slower 3.4", "per_s": 500, "cores": cores, "facts": {"a": "b"}},
    )
    assert "| faster 1.2 | 4,000 | 0.1 | 0.25 | 0.1 / 0.0 / 1 |" in page
    assert "| slower 3.4 | 500 | 0.1 | 2.00 | 0.1 / 0.0 / - |" in page
    assert "these are no figures" in page
    assert "From the submission until all have succeeded" in page


def test_what_holds_for_several_is_said_once() -> None:
    """Rows differ in a number only, mostly."""
    page = _page(
        {"system": "one", "per_s": 1, "cores": {}, "facts": {"Set up": "alike"}},
        {"system": "two", "per_s": 1, "cores": {}, "facts": {"Set up": "alike"}},
    )
    assert "- one; two\n  - Set up: alike.\n" in page
