"""What pytest-benchmark wrote down, by the files that measured it."""

import ast
from pathlib import Path
from typing import Any

from msgspec import Struct

_ROOT = Path(__file__).parent.parent
_TITLE_CHARS = 40


class Benchmark(Struct, frozen=True):
    """One test."""

    name: str
    """Without `test_`."""
    info: dict[str, Any]
    """What it put into pytest-benchmark's extra_info: see benchmarks/conftest.py."""

    @property
    def system(self) -> str:
        """Which one of some products that are compared; empty where nothing is."""
        return str(self.info.get("system", ""))

    @property
    def label(self) -> str:
        """For a table."""
        return self.system or f"`{self.name}`"


class Section(Struct, frozen=True):
    """One file: its question, and the benchmarks that answer it."""

    title: str
    text: str
    benchmarks: list[Benchmark]

    def groups(self) -> dict[str, list[Benchmark]]:
        """By what is compared in them; the empty name is for those that stand alone."""
        found: dict[str, list[Benchmark]] = {}
        for each in self.benchmarks:
            found.setdefault(str(each.info.get("group", "")), []).append(each)
        return found


def sections(benchmarks: list[dict[str, Any]]) -> list[Section]:
    """Sort benchmarks by their files."""
    files: dict[str, list[Benchmark]] = {}
    for each in benchmarks:
        file = each["fullname"].partition("::")[0]
        one = Benchmark(each["name"].removeprefix("test_"), each.get("extra_info", {}))
        files.setdefault(file, []).append(one)
    return [Section(*_question(_ROOT / file), members) for file, members in files.items()]


def _question(file: Path) -> tuple[str, str]:
    """Title and text from a docstring such as `Claims: how long one takes`."""
    text = ast.get_docstring(ast.parse(file.read_text())) if file.exists() else None
    title, colon, rest = (text or "").partition(": ")
    if colon and len(title) <= _TITLE_CHARS and "\n" not in title:
        return title, rest[:1].upper() + rest[1:]
    return file.stem.removeprefix("test_").replace("_", " ").capitalize(), text or ""
