#!/usr/bin/env bash
# Extract every message from the source, update the catalogues of all languages and compile them.
# `packaging/locale.sh --check` only says what is missing.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
exec "$here/.venv/bin/python" "$here/packaging/messages.py" "$@"
