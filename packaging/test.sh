#!/usr/bin/env bash
# Makes the environment, installs what is missing and runs the test suite: bash packaging/test.sh [pytest arguments...]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. packaging/environment.sh
# A real keyring and a virtual screen, for the tests that need them.
prepare packaging/test.lock gnome-keyring dbus dbus-daemon xvfb xauth
export QT_QPA_PLATFORM="${QT_QPA_PLATFORM:-offscreen}"
# Much of the suite waits for processes and sockets, so there are more workers than small machines have cores.
exec .venv/bin/python -m pytest --numprocesses 3 --dist loadfile "$@"
