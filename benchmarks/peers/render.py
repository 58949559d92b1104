"""Renders pytest-benchmark's JSON of the peers to a page, with the machine.

just bench-peers --benchmark-json peers.json
.venv/bin/python -m benchmarks.peers.render peers.json > benchmarks/PEERS.md
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.render import machine_section, noise_line, table_row
from benchmarks.sections import Benchmark, Section, sections

_OURS = "distributed-worker"

_INTRO = """# Beside peers

Rendered by `benchmarks/peers/render.py`; do not edit. All on one machine in one run, their rounds
in turns, each set up as its own documentation recommends for speed. Ratios carry over to other
machines better than absolute figures.

- *per second*: median of the rounds; *spread*: (slowest - fastest round) / median.
- *ours ÷ it*: how many times as much ours does as this one; below 1, this one is faster. Ours is
  the first row.
- *cores*: in use on average, by whom: *client* is the load generator, or what it ran to its end;
  *workers* are the processes of the row's product, our agent too, with their tasks; *others* had
  nothing to do with it and are noise.
"""

_REPEAT = """## Repeat it

```sh
just bench-peers --benchmark-json peers.json
.venv/bin/python -m benchmarks.peers.render peers.json > benchmarks/PEERS.md
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
    parts += ["\n".join(_section(section)) for section in found]
    return "\n".join([*parts, _REPEAT])


def _section(section: Section) -> Iterator[str]:
    for group, members in section.groups().items():
        yield f"## {group}\n"
        yield f"{section.text}\n"
        yield "\n".join([*_table(members), ""])
        yield "\n".join([*_facts(members), ""])


def _table(systems: list[Benchmark]) -> Iterator[str]:
    ours = next((each for each in systems if each.system.startswith(_OURS)), None)
    users = list(dict.fromkeys(user for each in systems for user in each.info["cores"]))
    yield table_row(["system", "per second", "spread", "ours ÷ it", f"cores: {' / '.join(users)}"])
    yield "|---|---|---|---|---|"
    for each in systems:
        info = each.info
        ratio = f"{ours.info['per_s'] / info['per_s']:.2f}" if ours and info["per_s"] else ""
        cores = " / ".join(str(info["cores"].get(user, "-")) for user in users)
        yield table_row([each.label, f"{info['per_s']:,}", str(info["spread"]), ratio, cores])


def _facts(systems: list[Benchmark]) -> Iterator[str]:
    same: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for each in systems:
        same.setdefault(tuple(each.info["facts"].items()), []).append(each.label)
    for facts, labels in same.items():
        yield f"- {'; '.join(labels)}"
        for name, text in facts:
            yield f"  - {name}: {text}."


def main() -> int:
    """Render the file that the command line names to standard output."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    print(page(msgspec.json.decode(Path(sys.argv[1]).read_bytes())), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
