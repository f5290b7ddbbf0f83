#!/usr/bin/env bash
# Makes the environment, installs what is missing and starts WatchHamster:
#   bash packaging/run.sh                     the desktop on the built-in exchange (headless without a display)
#   bash packaging/run.sh ARGUMENTS...        watchhamster ARGUMENTS...
set -euo pipefail
caller=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
. packaging/environment.sh
prepare packaging/run.lock
cd "$caller"
[ $# -gt 0 ] || set -- --demo
exec "$root/.venv/bin/watchhamster" "$@"
