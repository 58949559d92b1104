set positional-arguments

# List the recipes.
[private]
default:
    @'{{ just_executable() }}' --justfile '{{ justfile() }}' --list --unsorted

# Start the API, and a PostgreSQL of its own where DATABASE_URL is not set.
[group('use')]
[no-exit-message]
serve *ARGS: setup
    @exec .venv/bin/python -m api "$@"

# Start an agent that runs SLOTS tasks in parallel.
[group('use')]
[no-exit-message]
agent SLOTS="1" *ARGS: setup
    @exec .venv/bin/python -m agent "$@"

# Start everything, run a few tasks, and show what came out.
[group('use')]
[no-exit-message]
demo *ARGS: setup
    @exec .venv/bin/python -m client.demo "$@"

# Submit and watch tasks: just dw submit -- 'echo hello'
[group('use')]
[no-exit-message]
[no-cd]
dw *ARGS: setup
    @exec '{{ justfile_directory() }}/.venv/bin/dw' "$@"

# Build .venv from requirements/dev.txt; does nothing when it is up to date.
[group('develop')]
setup:
    @requirements/setup.sh

# Format the code, and mend what can be mended.
[group('develop')]
fmt: setup
    @.venv/bin/ruff check --fix --quiet
    @.venv/bin/ruff format --quiet

# Lint, formatting, types and layers: what CI checks before the tests.
[group('develop')]
check: setup
    @.venv/bin/ruff check
    @.venv/bin/ruff format --check --quiet
    @.venv/bin/mypy --no-error-summary
    @.venv/bin/lint-imports --no-logo

# Check, then test: just test -k claim, or just test -n 4 --dist loadfile
[group('develop')]
[no-exit-message]
test *ARGS: check
    @exec .venv/bin/python -m pytest "$@"

# Pin requirements/*.txt again, from pyproject.toml and tools.in (just lock --upgrade).
[group('develop')]
lock *ARGS:
    @requirements/lock.sh "$@"

# Write schema/schema.sql again, which the migrations must equal.
[group('develop')]
schema: setup
    @.venv/bin/python -m tests.store.schema_dump > schema/schema.sql

# Run a system with a believable workload, and write pictures of the console for the documents.
[group('develop')]
[no-exit-message]
screenshots: setup
    @exec .venv/bin/python -m tests.browser.screenshots docs/screenshots

# Remove what tools made; the data of `just serve` stays.
[group('develop')]
clean:
    @rm -rf .venv .tools/new .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist
    @find . -name __pycache__ -type d -prune -exec rm -rf {} +

# pytest-benchmark: claims, uploads, the agent, and the pieces they are made of.
[group('measure')]
[no-exit-message]
bench *ARGS: setup
    @exec .venv/bin/python -m pytest benchmarks --ignore benchmarks/peers --override-ini addopts=--import-mode=importlib --benchmark-only "$@"

# Ours beside hyperqueue, pgqueuer and procrastinate: the same work in the same run.
[group('measure')]
[no-exit-message]
bench-peers *ARGS: setup
    @exec .venv/bin/python -m pytest benchmarks/peers --override-ini addopts=--import-mode=importlib --benchmark-only "$@"

# Measure everything, some 25 minutes, and write benchmarks/RESULTS.md, its plot, and PEERS.md.
[group('measure')]
[no-exit-message]
bench-report: setup
    @mkdir -p .benchmarks
    @'{{ just_executable() }}' --justfile '{{ justfile() }}' bench --benchmark-json .benchmarks/result.json
    @.venv/bin/python -m benchmarks.render .benchmarks/result.json benchmarks
    @'{{ just_executable() }}' --justfile '{{ justfile() }}' bench-peers --benchmark-json .benchmarks/peers.json
    @.venv/bin/python -m benchmarks.peers.render .benchmarks/peers.json > benchmarks/PEERS.md

# Send COUNT requests made from the OpenAPI document to a server of its own: just fuzz 20000
[group('measure')]
[no-exit-message]
fuzz COUNT="5000": setup
    @FUZZ_REQUESTS="{{ COUNT }}" exec .venv/bin/python -m pytest tests/api/test_generated.py -s

# atheris on the decoders of gzip, msgpack, leases, marks, cursors and cookies, for so many seconds.
[group('measure')]
[no-exit-message]
fuzz-decoders SECONDS="120": setup
    @[ -d .tools/atheris ] || python3 -m pip install --quiet --target .tools/atheris atheris
    @PYTHONPATH=.tools/atheris exec .venv/bin/python -m tests.fuzz_decoders -max_total_time="{{ SECONDS }}"

# Locust against a running API: just load --headless -u 50 -t 60s
[group('measure')]
[no-exit-message]
load *ARGS: setup
    @exec .venv/bin/locust -f loadtest/agents.py "$@"

# Kill, cut and stall everything for DURATION=180 seconds, by SEED, and check the guarantees.
[group('measure')]
[no-exit-message]
chaos: setup
    @exec .venv/bin/python -m loadtest.chaos
