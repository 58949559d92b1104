"""The benchmarks work: each runs once, with next to nothing. No time is looked at."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]


def _run(*words: str, timeout_s: float) -> str:
    # pytest-benchmark does nothing in what it takes for one of many processes.
    plain = {name: value for name, value in os.environ.items() if "XDIST" not in name}
    run = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=_ROOT, env=plain | {"BENCH_QUICK": "1"}, capture_output=True, text=True,
        timeout=timeout_s, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    return run.stdout


def _bench(result: Path, *what: str) -> None:
    _run(
        "pytest", *what, "-q", "--benchmark-only",
        "--override-ini", "addopts=--import-mode=importlib", "-p", "no:cacheprovider",
        "--benchmark-json", str(result), timeout_s=230,
    )  # fmt: skip


@pytest.mark.timeout(240)
def test_the_benchmarks_run_and_can_be_shown(tmp_path: Path) -> None:
    """They cannot rot, and neither can the page and the plot of what they write down."""
    result = tmp_path / "result.json"
    _bench(result, "benchmarks", "--ignore=benchmarks/peers")
    _run("benchmarks.render", str(result), str(tmp_path), timeout_s=30)
    page = (tmp_path / "RESULTS.md").read_text()
    assert "these are no figures" in page
    assert "`claim_by_one_client`" in page
    assert "<svg" in (tmp_path / "results.svg").read_text()


@pytest.mark.timeout(240)
def test_the_comparisons_run_and_can_be_shown(tmp_path: Path) -> None:
    """Other products change what they are called with."""
    result = tmp_path / "peers.json"
    _bench(result, "benchmarks/peers")
    page = _run("benchmarks.peers.render", str(result), timeout_s=30)
    assert "distributed-worker" in page
    assert "pgqueuer" in page
