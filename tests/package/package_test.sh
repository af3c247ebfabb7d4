#!/usr/bin/env bash
# Installs the built tree into a scratch folder, moves that, and builds the examples against it.
set -euo pipefail
build=$1 source=$2 cc=$3 cxx=$4 sanitize=$5
if [ -n "$sanitize" ]; then
  echo "skipped: a sanitized library needs its users sanitized too"
  exit 77
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

cmake --install "$build" --prefix "$scratch/first" >/dev/null
mv "$scratch/first" "$scratch/moved"
pc=$(find "$scratch/moved" -name transfer_engine.pc)
libdir=$(dirname "$(dirname "$pc")")
export PKG_CONFIG_PATH=${pc%/*} LD_LIBRARY_PATH=$libdir

echo "== C with pkg-config"
# shellcheck disable=SC2046
"$cc" -std=c11 -Wall -Wextra -Werror "$source/examples/c/minimal.c" -o "$scratch/minimal_c" \
  $(pkg-config --cflags --libs transfer_engine)
"$scratch/minimal_c" | grep -q '4096 bytes, equal'

echo "== C++ with designated initializers and all warnings"
# shellcheck disable=SC2046
"$cxx" -std=c++20 -fsyntax-only -Wall -Wextra -Wmissing-field-initializers -Werror \
  "$source/tests/package/public_structs.cpp" $(pkg-config --cflags transfer_engine)

echo "== C++ with find_package"
mkdir "$scratch/project"
cp "$source/examples/cpp/minimal.cpp" "$scratch/project/"
cat >"$scratch/project/CMakeLists.txt" <<'CMAKE'
cmake_minimum_required(VERSION 3.20)
project(user CXX)
find_package(TransferEngine REQUIRED)
add_executable(minimal minimal.cpp)
target_link_libraries(minimal PRIVATE TransferEngine::transfer_engine)
CMAKE
cmake -S "$scratch/project" -B "$scratch/project/build" -DCMAKE_CXX_COMPILER="$cxx" \
  -DCMAKE_PREFIX_PATH="$scratch/moved" >/dev/null
cmake --build "$scratch/project/build" >/dev/null
"$scratch/project/build/minimal" | grep -q '4096 bytes, equal'

echo "== the installed te"
if [ -x "$scratch/moved/bin/te" ]; then
  env -u LD_LIBRARY_PATH "$scratch/moved/bin/te" --version
fi

echo "== it starts where libcurl and hwloc are missing"
if readelf -d "$libdir/libtransfer_engine.so" | grep -E 'NEEDED.*(curl|hwloc|fabric|ibverbs)'; then
  echo "the library takes what it should open at run time"
  exit 1
fi

echo "== none of its thread_local objects has a destructor: see base/per_thread.h"
if nm -D --undefined-only "$libdir/libtransfer_engine.so" | grep __cxa_thread_atexit; then
  exit 1
fi

echo "== only the API is exported"
exported=$(nm -D --defined-only -C "$libdir/libtransfer_engine.so")
if grep -E 'nlohmann|fmt::|te::(tcp|wire|Transfers)' <<<"$exported"; then
  echo "internal symbols are exported"
  exit 1
fi
