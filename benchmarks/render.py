"""Renders pytest-benchmark's JSON to a page and a plot, with the machine that it was measured on.

just bench --benchmark-json result.json
.venv/bin/python -m benchmarks.render result.json benchmarks
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import plot
from benchmarks.sections import Benchmark, Section, sections

_BUSY_CORES = 0.15
_WIDE = 0.25

_INTRO = """# Results

Rendered by `benchmarks/render.py`; do not edit. Load generator, API, database and agent share the
machine, over the embedded PostgreSQL with fsync on and default settings. Ratios carry over to other
machines, absolute figures do not.

- *per second*: median of the rounds; *spread*: (slowest - fastest round) / median.
- *p50*, *p99*: of single requests in the last round, at full load where there are many clients;
  of the agent's latency, over all tasks.
- *of limit*: the part of what the machine did in the same run without us, told below each table.
  Where limit and benchmark were measured in turns, it is the median of the pairs.
- *cores*: in use on average, by whom; *others* had nothing to do with it and are noise. The
  programs that a benchmark itself runs are its *client*'s, tasks are their *agent*'s.
"""

_PLOT = "results.svg"

_REPEAT = """## Repeat it

```sh
just bench-report              # measures all of it; writes this page and the plot
just bench -k uploads          # a part, on the terminal
```

Measure on a machine that does nothing else.
"""


def page(result: dict[str, Any]) -> str:
    """Write the page."""
    machine, found = result["machine_info"], sections(result["benchmarks"])
    parts = [_INTRO, machine_section(result["datetime"], machine)]
    parts.append(noise_line([each for section in found for each in section.benchmarks]))
    if machine.get("quick"):
        parts.append("**A quick run (BENCH_QUICK): these are no figures.**\n")
    if any(plot.rows(section) for section in found):
        parts.append(f"## In proportion\n\n![Ratios to the limits]({_PLOT})\n")
    parts += ["\n".join(_section(section)) for section in found]
    return "\n".join([*parts, _REPEAT])


def machine_section(when: str, machine: dict[str, Any]) -> str:
    """What the figures depend on."""
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    cpu = machine["cpu"].get("brand_raw", machine["machine"])
    load = " ".join(map(str, machine["load_after"]))
    return (
        f"## Machine\n\n"
        f"{when[:16].replace('T', ' ')} UTC · {cpu}, {machine['cores']} cores,"
        f" {machine['memory_gib']} GiB · {machine['system']} {machine['release']},"
        f" {machine['file_system']} · Python {machine['python_version']} · {packages}\n\n"
        f"Load average at the end of the run: {load}.\n"
    )


def noise_line(benchmarks: list[Benchmark]) -> str:
    """How calm the machine was."""
    cores = [each.info.get("cores", {}) for each in benchmarks]
    others = [each["others"] for each in cores if "others" in each]
    if not others:
        return "Nothing tells how calm the machine was.\n"
    busy = sum(each > _BUSY_CORES for each in others)
    wide = sum(each.info.get("spread", 0.0) > _WIDE for each in benchmarks)
    calm = "The machine was calm" if not busy else "**The machine was not calm**"
    return (
        f"{calm}: other processes used {min(others)} to {max(others)} cores, over {_BUSY_CORES} in"
        f" {busy} of {len(others)} benchmarks; {wide} of {len(benchmarks)} spread by more than"
        f" {_WIDE}.\n"
    )


def _section(section: Section) -> Iterator[str]:
    yield f"## {section.title}\n"
    if section.text:
        yield f"{section.text}\n"
    for group, members in section.groups().items():
        if group:
            yield f"### {group}\n"
        if rows := list(_table(members)):
            yield "\n".join([*rows, ""])
    for lines in (list(_limits(section.benchmarks)), list(_facts(section.benchmarks))):
        if lines:
            yield "\n".join([*lines, ""])


def _table(benchmarks: list[Benchmark]) -> Iterator[str]:
    """Write a table; columns in which nothing stands are left out, and so is an empty table."""
    users = list(dict.fromkeys(user for each in benchmarks for user in each.info.get("cores", ())))
    columns = {
        "per second": [_per_s(each.info) for each in benchmarks],
        "spread": _values(benchmarks, "spread"),
        "p50 ms": _values(benchmarks, "p50_ms"),
        "p99 ms": _values(benchmarks, "p99_ms"),
        "log MB/s": _values(benchmarks, "log_mb_per_s"),
        "of limit": _values(benchmarks, "of_limit"),
    }
    columns = {name: cells for name, cells in columns.items() if any(cells)}
    if not columns:
        return
    columns[f"cores: {' / '.join(users)}"] = [
        " / ".join(str(each.info.get("cores", {}).get(user, "-")) for user in users)
        for each in benchmarks
    ]
    yield table_row(["system" if benchmarks[0].system else "benchmark", *columns])
    yield "|---" * (len(columns) + 1) + "|"
    for number, each in enumerate(benchmarks):
        yield table_row([each.label, *(cells[number] for cells in columns.values())])


def _values(benchmarks: list[Benchmark], key: str) -> list[str]:
    return [str(each.info.get(key, "")) for each in benchmarks]


def _per_s(info: dict[str, Any]) -> str:
    return f"{info['per_s']:,} {info.get('unit', '')}".strip() if "per_s" in info else ""


def _limits(benchmarks: list[Benchmark]) -> Iterator[str]:
    for each in benchmarks:
        if "limit" in each.info:
            per_s = f"{each.info['limit_per_s']:,} {each.info.get('unit', '')}".strip()
            span = each.info.get("of_limit_range")
            pairs = f"; {span} of it, round by round" if span else ""
            yield f"- Limit of {each.label}: {per_s} per second ({each.info['limit']}){pairs}."


def _facts(benchmarks: list[Benchmark]) -> Iterator[str]:
    if not any(each.info.get("facts") for each in benchmarks):
        return
    yield table_row(["benchmark", "fact", ""])
    yield "|---|---|---|"
    for each in benchmarks:
        label = each.label
        for name, text in each.info.get("facts", {}).items():
            yield table_row([label, name, text])
            label = ""


def table_row(cells: list[str]) -> str:
    """Cells as Markdown."""
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def main() -> int:
    """Render the file that the command line names into a folder."""
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    result = msgspec.json.decode(Path(sys.argv[1]).read_bytes())
    folder = Path(sys.argv[2])
    (folder / "RESULTS.md").write_text(page(result))
    (folder / _PLOT).write_text(plot.svg(sections(result["benchmarks"])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
