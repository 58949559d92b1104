"""The benchmarks work: each runs once, with next to nothing. No time is looked at."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]


def _run(*words: str, timeout_s: float) -> str:
    run = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=_ROOT, env=os.environ | {"BENCH_QUICK": "1"}, capture_output=True, text=True,
        timeout=timeout_s, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    return run.stdout


@pytest.mark.timeout(240)
def test_the_benchmarks_run_and_can_be_shown(tmp_path: Path) -> None:
    """They cannot rot, and neither can the page that is made of what they write down."""
    result = tmp_path / "result.json"
    _run(
        "pytest", "benchmarks", "--ignore=benchmarks/peers", "-q", "--benchmark-only",
        "--override-ini", "addopts=--import-mode=importlib", "-p", "no:cacheprovider",
        "--benchmark-json", str(result), timeout_s=230,
    )  # fmt: skip
    page = _run("benchmarks.render", str(result), timeout_s=30)
    assert "these are no figures" in page
    assert "`claim_by_one_client`" in page
