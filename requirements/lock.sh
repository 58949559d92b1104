#!/bin/sh
# Pins the requirements. No index, folder or host gets into the files: they stay the same
# wherever they are made.
set -eu
cd "$(dirname "$0")/.."

compile() {
    "$uv" pip compile "$@" --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-emit-find-links --custom-compile-command 'just lock'
}

uv=.tools/$(cksum <requirements/tools.txt | tr ' ' -)/bin/uv
[ -x "$uv" ] || uv=$(command -v uv) || {
    echo 'lock: uv is missing: run ./justw once' >&2
    exit 1
}
export UV_PYTHON_DOWNLOADS=never
compile pyproject.toml --group dev --all-extras --output-file requirements/dev.txt "$@"
# Held to what dev.txt names: what is deployed is what was tested.
compile pyproject.toml --all-extras --constraint requirements/dev.txt \
    --output-file requirements/run.txt "$@"
compile requirements/tools.in --output-file requirements/tools.txt "$@"
