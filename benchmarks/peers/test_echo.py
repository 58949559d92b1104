"""Echo tasks: from the submission until all have succeeded, 16 at a time.

`bash -c` is what our agent starts; hyperqueue starts what it is given. The limit is what xargs
needs to start as many processes.
"""

import asyncio
import importlib.util
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks import agents, tables
from benchmarks.peers import comparison, processes
from benchmarks.peers.comparison import Rounds, System, clock
from benchmarks.peers.echo import SLOTS, HyperQueue, Ours, Xargs
from benchmarks.server import BenchServer

pytestmark = [pytest.mark.benchmark(timer=clock), pytest.mark.timeout(1200)]

_GROUP = f"Echo tasks from end to end, {SLOTS} at a time"
_TASKS = 2000
_PEERS = ("hyperqueue, bash", "hyperqueue, echo", "hyperqueue, bash without output")


@pytest.fixture(scope="module")
def measured(
    server: BenchServer, module_runner: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Rounds]]:
    """Run all rounds of all systems."""
    tasks = comparison.size(_TASKS)
    folder: Path = tmp_path_factory.mktemp("hyperqueue")
    module_runner.run(tables.clear_queue(server))
    with ExitStack() as stack:
        agent = stack.enter_context(agents.start(server, SLOTS))
        systems: dict[str, System] = {
            "ours": Ours(module_runner, server, agent, tasks),
            "xargs": Xargs(tasks),
        }
        if importlib.util.find_spec("hyperqueue"):
            [cluster] = stack.enter_context(processes.started("hyperqueue_cluster", str(folder)))
            systems |= zip(
                _PEERS,
                (
                    HyperQueue(cluster, "bash", "kept", tasks),
                    HyperQueue(cluster, "echo", "kept", tasks),
                    HyperQueue(cluster, "bash", "discarded", tasks),
                ),
                strict=True,
            )
        all_rounds = comparison.interleave(server, list(systems.values()))
        yield dict(zip(systems, all_rounds, strict=True))
        module_runner.run(tables.clear_logs(server))


@pytest.mark.parametrize("system", ["ours", *_PEERS, "xargs"])
def test_echo(benchmark: BenchmarkFixture, measured: dict[str, Rounds], system: str) -> None:
    """Tasks a second, and what part that is of starting the same processes only."""
    if system not in measured:
        pytest.skip("hyperqueue has no wheel for this machine")
    comparison.tell(benchmark, _GROUP, measured[system])
    limit = measured["xargs"]
    if system != "xargs":
        benchmark.extra_info |= {
            "limit": limit.system.name,
            "limit_per_s": round(limit.per_s),
            "of_limit": round(measured[system].per_s / limit.per_s, 2),
        }
