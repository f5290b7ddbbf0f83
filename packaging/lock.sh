#!/usr/bin/env bash
# Makes both lock files anew from pyproject.toml, for every system and Python at once. Needs uv.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
compile() {
  uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header --no-annotate \
    --no-emit-index-url --no-emit-find-links pyproject.toml "$@"
}
compile --extra build -o packaging/run.lock
compile --extra build --extra fast --extra test -c packaging/run.lock -o packaging/test.lock
