#!/usr/bin/env bash
# Installs what is missing on Debian or Ubuntu, and the locked Python environment in .venv.
# Usage: scripts/setup.sh [--tests]      (--tests: also what only the tests need)
# Asks for nothing where everything is there already, so it is cheap to run again.
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-python3}
UV_VERSION=0.13.9

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

command -v "$PYTHON" >/dev/null || die "$PYTHON not found; install Python 3.11, 3.12 or 3.13, or name one: make PYTHON=python3.12 setup"
"$PYTHON" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' ||
    die "$("$PYTHON" --version) is too old or too new; TensorFlow 2.21 needs 3.11 to 3.13: make PYTHON=python3.12 setup"
[ "$(uname -m)" = x86_64 ] ||
    die "the locked environment is for x86-64, as TensorFlow's CPU build is, and this is $(uname -m); install the parts that \
this host needs with pip (README, \"Run it for real\")"

java_17() {
    command -v java >/dev/null && java -version 2>&1 | awk -F'[".]' '/version/ { exit !($2 >= 17) }'
}

missing=()
need() { missing+=("$@"); }
command -v cc >/dev/null || need build-essential
"$PYTHON" -c 'import ensurepip' 2>/dev/null || need python3-venv
"$PYTHON" -c 'import pathlib, sysconfig, sys; sys.exit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").exists())' ||
    need python3-dev
[ -e /usr/include/portaudio.h ] || need portaudio19-dev
if ! java_17; then
    # Debian 13 has no 17 any more; any newer one does.
    apt-cache show openjdk-17-jre-headless >/dev/null 2>&1 && need openjdk-17-jre-headless || need default-jre-headless
fi
command -v mvn >/dev/null || need maven
if [ "${1:-}" = --tests ]; then
    command -v pulseaudio >/dev/null || need pulseaudio
    command -v paplay >/dev/null || need pulseaudio-utils
    ls /usr/lib/*/alsa-lib/libasound_module_pcm_pulse.so >/dev/null 2>&1 || need libasound2-plugins
    command -v promtool >/dev/null || need prometheus
    command -v kcat >/dev/null || need kcat
fi

if [ ${#missing[@]} -gt 0 ]; then
    command -v apt-get >/dev/null || die "this needs apt-get for: ${missing[*]}; install their like by hand, then run it again"
    as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || die "as root: apt-get install ${missing[*]}"
        as_root=(sudo)
    fi
    say "installing ${missing[*]}"
    "${as_root[@]}" apt-get update -qq
    # A service that a package would start by itself (prometheus) is not wanted: Earshot starts what it needs.
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

[ -x .venv/bin/python ] || "$PYTHON" -m venv .venv
[ -x .venv/bin/uv ] || .venv/bin/python -m pip install --quiet --disable-pip-version-check "uv==$UV_VERSION"
[ -x .venv/bin/earshot ] || say "installing Python packages into .venv, which takes a while the first time"
# Compiled now: where Python may not write its caches, every process would compile all that it imports anew.
.venv/bin/uv sync --quiet --frozen --all-extras --compile-bytecode
