#!/usr/bin/env bash
# Runs clang-tidy over the library, with clang's own warnings: a mutex that is not held where it
# should be is an error. Usage: scripts/tidy.sh BUILD
# It looks at units of several files (TE_UNITY), of which the headers take most of the time; their
# build files go to BUILD. A unit that passed is checked again only when one of its files, a header,
# the checks or the build files changed.
set -euo pipefail
cd "$(dirname "$0")/.."
export build=$1
cmake -S . -B "$build" -G Ninja -DTE_UNITY=ON -DTE_BUILD_TESTS=OFF -DTE_BUILD_TOOLS=OFF >/dev/null

# What every unit's verdict depends on.
common=$({
  cat .clang-tidy scripts/tidy.sh CMakeLists.txt src/CMakeLists.txt cmake/warnings.cmake
  clang-tidy --version
  find include src -name '*.h' -print0 | sort -z | xargs -0 sha256sum
} | sha256sum)
export common=${common%% *}

check() {
  local unit=$1 key
  key=$({
    echo "$common"
    sed -n 's/^#include "\(.*\)"$/\1/p' "$unit" | xargs cat
  } | sha256sum)
  [ "$(cat "$unit.passed" 2>/dev/null)" = "$key" ] && return
  clang-tidy --quiet -p "$build" --checks=-bugprone-suspicious-include \
    --extra-arg=-Wthread-safety --extra-arg=-Wno-ignored-optimization-argument "$unit" \
    2>/dev/null || return 1
  echo "$key" >"$unit.passed"
}
export -f check

# Not those that an earlier build left there.
# shellcheck disable=SC2016
sed -n 's/^ *"file": "\(.*\.cxx\)".*/\1/p' "$build/compile_commands.json" | sort |
  xargs -P "$(nproc)" -I UNIT bash -c 'check "$1"' check UNIT
