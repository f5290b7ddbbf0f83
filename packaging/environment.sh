# Sourced by run.sh and test.sh: makes .venv/ from a lock file and installs the system libraries Qt needs.
#
#   prepare LOCK LIBRARIES...    returns at once when nothing changed since the last time
#
# The stamp inside .venv is written last, so a run killed half-way is completed by the next one.

say() { printf '%s\n' "· $*" >&2; }

fail() {
  printf '%s\n' "$1" >&2
  exit 1
}

find_python() {
  for candidate in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11; do
    [ -n "$candidate" ] || continue
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  fail "WatchHamster needs Python 3.11 or newer. Install it (Debian, Ubuntu: apt-get install python3) and start again."
}

# Runs a long step quietly; shows its log when it fails.
step() {
  local title=$1 log
  shift
  say "$title"
  log=$(mktemp)
  if ! "$@" >"$log" 2>&1; then
    tail -n 40 "$log" >&2
    rm -f "$log"
    return 1
  fi
  rm -f "$log"
}

apt_install() {
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    if sudo -n true 2>/dev/null; then
      as_root=(sudo -n)
    else
      fail "System packages are missing. Type this once, then start again:
  sudo apt-get update && sudo apt-get install -y --no-install-recommends ${missing[*]}"
    fi
  fi
  step "looking up system packages" "${as_root[@]}" apt-get update -q || true
  step "installing system packages: ${missing[*]}" "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -q --no-install-recommends "${missing[@]}" ||
    fail "The system packages could not be installed; the lines above say why."
}

# libglib2.0-0 is called libglib2.0-0t64 on newer Debian and Ubuntu.
system_libraries() {
  local glib=libglib2.0-0
  if ! apt-cache show libglib2.0-0 >/dev/null 2>&1 && apt-cache show libglib2.0-0t64 >/dev/null 2>&1; then
    glib=libglib2.0-0t64
  fi
  echo "$glib libegl1 libgl1 libdbus-1-3 libfontconfig1 libxkbcommon0 fonts-noto-cjk"
  # for a real screen
  echo "libxcb-cursor0 libxcb-icccm4 libxcb-keysyms1 libxcb-randr0 libxcb-shape0 libxcb-xkb1 libxkbcommon-x11-0"
}

# Draws Hangul with Qt, offscreen: the one proof that libraries and fonts are there.
qt_works() {
  QT_QPA_PLATFORM=offscreen .venv/bin/python - <<'PY' >/dev/null 2>&1
from PySide6.QtGui import QFontMetrics
from PySide6.QtWidgets import QApplication

app = QApplication([])
raise SystemExit(not QFontMetrics(app.font()).inFontUcs4(ord("가")))
PY
}

make_venv() {
  local python=$1
  if "$python" -c 'import ensurepip' 2>/dev/null; then
    "$python" -m venv .venv
  elif "$python" -m pip --version >/dev/null 2>&1; then
    "$python" -m venv --without-pip .venv
  else
    return 1
  fi
}

install_packages() {
  local python=$1 lock=$2
  if command -v uv >/dev/null 2>&1; then
    uv venv --quiet --allow-existing --python "$python" .venv &&
      uv pip install --quiet --python .venv/bin/python --require-hashes -r "$lock" &&
      uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation -e .
    return
  fi
  make_venv "$python" || return 1
  local pip=(.venv/bin/python -m pip)
  .venv/bin/python -m pip --version >/dev/null 2>&1 || pip=("$python" -m pip --python .venv/bin/python)
  "${pip[@]}" install --disable-pip-version-check --no-input --require-hashes -r "$lock" &&
    "${pip[@]}" install --disable-pip-version-check --no-input --no-deps --no-build-isolation -e .
}

prepare() {
  local lock=$1 python key stamp
  shift
  python=$(find_python) || exit 1
  key=$({ cat "$lock" pyproject.toml packaging/environment.sh; "$python" -c 'import sys; print(sys.version, sys.platform)'; echo "$PWD $*"; } | cksum)
  stamp=.venv/.ready-$(basename "$lock" .lock)
  [ "$(cat "$stamp" 2>/dev/null)" = "$key" ] && return 0

  # Two starts share .venv: the second waits here, then finds the stamp.
  if command -v flock >/dev/null 2>&1; then
    exec 9>.venv.lock
    flock 9
    [ "$(cat "$stamp" 2>/dev/null)" = "$key" ] && return 0
  fi

  # 3.11.2 of Debian comes without ensurepip and often without pip
  if ! command -v uv >/dev/null 2>&1 && ! "$python" -c 'import ensurepip' 2>/dev/null &&
    ! "$python" -m pip --version >/dev/null 2>&1; then
    command -v apt-get >/dev/null 2>&1 ||
      fail "This Python has neither ensurepip nor pip. Install one of them (or uv) and start again."
    apt_install python3-venv
  fi
  step "installing Python packages into .venv (a minute the first time)" install_packages "$python" "$lock" ||
    fail "The Python packages could not be installed; the lines above say why."

  if ! qt_works; then
    if command -v apt-get >/dev/null 2>&1; then
      # shellcheck disable=SC2046
      apt_install $(system_libraries)
    fi
    qt_works || fail "Qt cannot draw here. See what is missing: .venv/bin/watchhamster doctor"
  fi
  if [ $# -gt 0 ] && command -v apt-get >/dev/null 2>&1; then
    apt_install "$@"
  fi
  echo "$key" >"$stamp"
  exec 9>&- # or the program started next would hold the lock for its whole life
  say "ready"
}
