"""Renders pytest-benchmark's JSON to Markdown, with the machine that it was measured on.

just bench --benchmark-json result.json
.venv/bin/python -m benchmarks.render result.json > benchmarks/RESULTS.md
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

_BUSY_CORES = 0.15
_WIDE = 0.25

_INTRO = """# Results

Rendered by `benchmarks/render.py`; do not edit. Load generator, API and database share the machine,
over the embedded PostgreSQL with fsync on and default settings. Ratios carry over to other
machines, absolute figures do not.

- *per second*: median of the rounds; *spread*: (slowest - fastest round) / median.
- *p50*, *p99*: of single requests in the last round, at full load where there are many clients.
- *limit*: what PostgreSQL did in the same run without the API, on the same data.
- *cores*: in use on average by client, API, PostgreSQL, and by whatever else the machine did:
  the last one is noise.
"""

_REPEAT = """## Repeat it

```sh
just bench --benchmark-json result.json
.venv/bin/python -m benchmarks.render result.json > benchmarks/RESULTS.md
```
"""

_HEADER = "| benchmark | per second | spread | p50 ms | p99 ms | log MB/s | of limit | cores |"


def render(result: dict[str, Any]) -> str:
    """Write the page."""
    machine, benchmarks = result["machine_info"], result["benchmarks"]
    parts = [_INTRO, *_machine(result["datetime"], machine), _noise(benchmarks)]
    if machine.get("quick"):
        parts.append("**A quick run (BENCH_QUICK): these are no figures.**\n")
    for title, mark in (("Claims", "test_claims.py"), ("Uploads", "test_uploads.py")):
        rows = [_row(each) for each in benchmarks if mark in each["fullname"]]
        if rows:
            parts.append("\n".join([f"## {title}\n", _HEADER, "|---" * 8 + "|", *rows, ""]))
    limits = {
        f"- {each['extra_info']['limit']}: {each['extra_info']['limit_per_s']:,} per second"
        f" beside `{_name(each)}`"
        for each in benchmarks
        if "limit" in each["extra_info"]
    }
    parts.append("\n".join(["## Limits\n", *sorted(limits), ""]))
    return "\n".join([*parts, _REPEAT])


def _machine(when: str, machine: dict[str, Any]) -> Iterator[str]:
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    cpu = machine["cpu"].get("brand_raw", machine["machine"])
    load = " ".join(map(str, machine["load_after"]))
    yield (
        f"## Machine\n\n"
        f"{when[:16].replace('T', ' ')} UTC · {cpu}, {machine['cores']} cores,"
        f" {machine['memory_gib']} GiB · {machine['system']} {machine['release']},"
        f" {machine['file_system']} · Python {machine['python_version']} · {packages}\n\n"
        f"Load average at the end of the run: {load}.\n"
    )


def _noise(benchmarks: list[dict[str, Any]]) -> str:
    infos = [each["extra_info"] for each in benchmarks]
    others = [info["cores"]["others"] for info in infos]
    busy = sum(each > _BUSY_CORES for each in others)
    wide = sum(info["spread"] > _WIDE for info in infos)
    calm = "The machine was calm" if not busy else "**The machine was not calm**"
    return (
        f"{calm}: other processes used {min(others)} to {max(others)} cores, over {_BUSY_CORES} in"
        f" {busy} of {len(infos)} benchmarks; {wide} of them spread by more than {_WIDE}.\n"
    )


def _name(benchmark: dict[str, Any]) -> str:
    name: str = benchmark["name"]
    return name.removeprefix("test_")


def _row(benchmark: dict[str, Any]) -> str:
    info = benchmark["extra_info"]
    cores = " / ".join(str(info["cores"][each]) for each in ("client", "api", "postgres", "others"))
    cells = (
        f"`{_name(benchmark)}`",
        f"{info['per_s']:,} {info['unit']}",
        info["spread"],
        info["p50_ms"],
        info["p99_ms"],
        info.get("log_mb_per_s", ""),
        info.get("of_limit", ""),
        cores,
    )
    return f"| {' | '.join(map(str, cells))} |"


def main() -> int:
    """Render the file that the command line names to standard output."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    print(render(msgspec.json.decode(Path(sys.argv[1]).read_bytes())), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
