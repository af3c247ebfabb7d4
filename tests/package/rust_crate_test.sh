#!/usr/bin/env bash
# Builds the Rust crate in the two ways that name no built library, alone and with an installed one,
# and moves bytes with each: rust_crate_test.sh BUILD SOURCE SANITIZE
set -euo pipefail
build=$(realpath "$1") source=$2 sanitize=$3
if [ -n "$sanitize" ]; then
  echo "skipped: a sanitized library needs its users sanitized too"
  exit 77
fi
wanted=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$source/rust/Cargo.toml")
found=$(cargo --version 2>/dev/null | awk '{print $2}' || true)
oldest=$(printf '%s\n%s\n' "$wanted" "${found:-0}" | sort -V | head -n 1)
if [ "$oldest" != "$wanted" ]; then
  echo "skipped: it needs cargo $wanted or later"
  exit 77
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export CARGO_TARGET_DIR=$build/tests/package/crate
unset TRANSFER_ENGINE_LIB_DIR TRANSFER_ENGINE_USE_INSTALLED
if command -v ccache >/dev/null; then
  export CMAKE_C_COMPILER_LAUNCHER=ccache CMAKE_CXX_COMPILER_LAUNCHER=ccache
fi

# The crate as it is set up now moves bytes, with a library below the folder that is given.
moves_with_library_in() {
  local program
  (cd "$source/rust" && cargo test --quiet --locked --test bench_program it_measures)
  program=$CARGO_TARGET_DIR/debug/transfer_engine_bench
  if ! ldd "$program" | grep -F libtransfer_engine.so | grep -F "=> $1/"; then
    echo "$program takes another libtransfer_engine.so than the one below $1"
    return 1
  fi
}

echo "== alone: the native library is built"
moves_with_library_in "$CARGO_TARGET_DIR/debug/build"

echo "== with an installed library, when asked"
cmake --install "$build" --prefix "$scratch/installed" >/dev/null
pc=$(find "$scratch/installed" -name transfer_engine.pc)
TRANSFER_ENGINE_USE_INSTALLED=1 PKG_CONFIG_PATH=${pc%/*} \
  moves_with_library_in "$(realpath "$scratch")/installed"

echo "== asked for an installed library that is not there"
if (cd "$source/rust" && TRANSFER_ENGINE_USE_INSTALLED=1 PKG_CONFIG_LIBDIR=$scratch \
  cargo build --quiet --locked) >"$scratch/said" 2>&1; then
  echo "it was built, with what?"
  exit 1
fi
grep 'pkg-config finds no module .transfer_engine.: install' "$scratch/said" || {
  cat "$scratch/said"
  exit 1
}
