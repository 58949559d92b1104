"""`--version` of what people start."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]


def _told(module: str, path: str = "") -> str:
    done = subprocess.run(
        [sys.executable, "-m", module, "--version"], cwd=_ROOT, capture_output=True, text=True,
        check=True, env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    return done.stdout


@pytest.mark.parametrize(
    ("module", "name"), [("client.cli", "dw"), ("api", "api"), ("agent", "agent")]
)
def test_each_program_tells_its_version(module: str, name: str, tmp_path: Path) -> None:
    """Whoever reports a fault is asked for it: of a package its metadata, of a checkout that."""
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
    assert _told(module) == f"{name} {project['version']}+source\n"
    installed = tmp_path / "distributed_worker-9.8.7.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Name: distributed-worker\nVersion: 9.8.7\n")
    assert _told(module, str(tmp_path)) == f"{name} 9.8.7\n"


def test_the_api_refuses_words_that_it_would_not_follow() -> None:
    """A port on the command line was ignored, and the API listened on another one."""
    done = subprocess.run(
        [sys.executable, "-m", "api", "--port", "4000"], cwd=_ROOT, capture_output=True, text=True,
        check=False, env=os.environ | {"PORT": "1"},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert "unrecognized arguments: --port 4000" in done.stderr
