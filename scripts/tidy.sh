#!/usr/bin/env bash
# Runs clang-tidy over the library, with clang's own warnings: a mutex that is not held where it
# should be is an error. Usage: scripts/tidy.sh BUILD
# BUILD has the compile_commands.json. A file that passed is checked again only when it, a header,
# the checks or the build files changed.
set -euo pipefail
cd "$(dirname "$0")/.."
export build=$1
export passed=$build/tidy
mkdir -p "$passed"

# What every file's verdict depends on.
common=$({
  cat .clang-tidy scripts/tidy.sh CMakeLists.txt src/CMakeLists.txt cmake/warnings.cmake
  clang-tidy --version
  find include src -name '*.h' -print0 | sort -z | xargs -0 sha256sum
} | sha256sum)
export common=${common%% *}

check() {
  local file=$1 key stamp
  key=$({
    echo "$common"
    cat "$file"
  } | sha256sum)
  stamp=$passed/${file//\//_}
  [ "$(cat "$stamp" 2>/dev/null)" = "$key" ] && return
  clang-tidy --quiet -p "$build" --extra-arg=-Wthread-safety \
    --extra-arg=-Wno-ignored-optimization-argument "$file" 2>/dev/null || {
    echo "clang-tidy: $file" >&2
    return 1
  }
  echo "$key" >"$stamp"
}
export -f check

# shellcheck disable=SC2016
find src -name "*.cpp" -print0 | sort -z |
  xargs -0 -P "$(nproc)" -I FILE bash -c 'check "$1"' check FILE
