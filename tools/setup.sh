#!/usr/bin/env bash
# Installs what is missing, then runs the main job or the tests:
#
#     bash tools/setup.sh train [options of tools/train.py fit]
#     bash tools/setup.sh test  [options of pytest]
#     bash tools/setup.sh install [extra,extra]     only installs
#
# Python packages go into .venv in this folder. Debian packages are installed where this is
# allowed (root, apt-get) and named otherwise; only the Open3D pictures need them.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*" >&2; }

find_python() {
  local candidate
  for candidate in "${PYTHON:-}" python3.11 python3.12 python3.10 python3; do
    [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 || continue
    if "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  say "No Python 3.10, 3.11 or 3.12 was found. Install one, or name it: PYTHON=/path/to/python3.11 bash tools/setup.sh $*"
  exit 1
}

install_debian_packages() {
  # What Open3D needs to import (libusb) and to draw without a display (EGL by Mesa).
  local missing=() package
  for package in libusb-1.0-0 libegl1 libegl-mesa0 libgl1-mesa-dri libgl1 libgomp1; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    say "Installing Debian packages for the Open3D pictures: ${missing[*]}"
    if (apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q "${missing[@]}") >.venv/apt.log 2>&1; then
      return
    fi
    say "apt-get failed, see .venv/apt.log."
  fi
  say "Without these system packages everything runs but the Open3D pictures: ${missing[*]}"
}

install_python_packages() { # extras
  local extras=$1 wanted stamp
  wanted=$(cksum < pyproject.toml | cut -d' ' -f1)
  stamp=".venv/.installed-${extras//,/-}-$wanted"
  [ -e "$stamp" ] && return
  say "Installing Python packages into .venv (a few minutes the first time) ..."
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[$extras]" 2> >(grep -v 'is ignored: it is neither' >&2)
  touch "$stamp"
}

prepare() { # extras
  [ -x .venv/bin/python ] || "$(find_python)" -m venv .venv
  if command -v dpkg-query >/dev/null 2>&1; then install_debian_packages; fi
  install_python_packages "$1"
}

# Waiting threads sleep instead of spinning: on a busy machine that is worth a factor of nine.
export OMP_WAIT_POLICY=passive

command=${1:-}
[ $# -gt 0 ] && shift
case "$command" in
  train)
    prepare export
    exec .venv/bin/python tools/train.py fit --config configs/nuscenes_mini.yaml "$@"
    ;;
  test)
    prepare dev,export,peers
    # One thread per process and two processes beat two threads in one.
    OMP_NUM_THREADS=1 exec .venv/bin/python -m pytest -n 2 --dist worksteal "$@"
    ;;
  install)
    prepare "${1:-export}"
    ;;
  *)
    sed -n '2,9s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
