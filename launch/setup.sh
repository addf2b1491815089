#!/bin/sh
# Makes .venv ready: a Python, the Debian libraries that Mooncake loads, the pinned packages.
# Called by make; it may be run again at any time. EXTRAS chooses another build of Mooncake
# (EXTRAS=mooncake-cuda12,dev), PYTHON another Python.
set -eu
cd "$(dirname "$0")/.."

LIBRARIES="libibverbs1 ibverbs-providers libnuma1 libcurl4"

say() { echo "setup: $*" >&2; }

find_python() {
    for python in ${PYTHON:-} python3 python3.13 python3.12 python3.11; do
        if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$python"
            return
        fi
    done
    say "Python 3.11 or newer is needed, and none was found; name one with PYTHON=/path/to/python3"
    exit 1
}

make_venv() {
    [ -x .venv/bin/python ] && .venv/bin/python -m pip --version >/dev/null 2>&1 && return
    python=$(find_python)
    say "making .venv with $("$python" --version)"
    if ! "$python" -m venv --clear .venv; then
        say "this Python cannot make virtual environments; on Debian: apt-get install python3-venv"
        exit 1
    fi
}

libraries_there() {
    for library in libibverbs.so.1 libnuma.so.1 libcurl.so.4; do
        PATH="$PATH:/sbin:/usr/sbin" ldconfig -p 2>/dev/null | grep -q "$library" || return 1
    done
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

install_libraries() {
    libraries_there && return
    if command -v apt-get >/dev/null && as_root true 2>/dev/null; then
        say "installing the libraries that Mooncake needs: $LIBRARIES"
        as_root apt-get update -qq || true
        # shellcheck disable=SC2086  # one word for each package
        as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get install -qq -y --no-install-recommends $LIBRARIES >/dev/null || true
    fi
    libraries_there && return
    say "without $LIBRARIES Mooncake cannot be loaded: roles on one host use shared memory all the"
    say "same, roles on several hosts do not work. On Debian: apt-get install $LIBRARIES"
}

# The pip that comes with a Python is years old and takes minutes to read the pages of an index.
upgrade_pip() {
    .venv/bin/python -m pip install --quiet --no-compile --disable-pip-version-check \
        --root-user-action=ignore --upgrade -c constraints.txt pip ||
        say "no newer pip was found; going on with $(.venv/bin/python -m pip --version)"
}

# Python compiles what it imports by itself; to do so for all of these packages takes a minute.
# setuptools warns of every editable installation, ours too: not a reader's concern.
pip_install() {
    PYTHONWARNINGS=ignore .venv/bin/python -m pip install --quiet --no-compile --disable-pip-version-check \
        --root-user-action=ignore -c constraints.txt -e ".[$1]"
}

install_packages() {
    extras=${EXTRAS:-mooncake,dev}
    say "installing the pinned packages into .venv (torch is large; this takes some minutes)"
    upgrade_pip
    pip_install "$extras" && return
    say "that failed; trying without Mooncake"
    pip_install dev
    say "Mooncake is not installed: roles use shared memory, on one host"
}

make_venv
install_libraries
install_packages
touch .venv/.ready
