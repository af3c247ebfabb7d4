#!/usr/bin/env bash
# The bindings that are committed are those that bindgen makes of the C header:
# rust_bindings_test.sh SOURCE BUILD
set -euo pipefail
source=$1 build=$2
if ! command -v cargo >/dev/null; then
  echo "skipped: no cargo that is new enough"
  exit 77
fi
export CARGO_TARGET_DIR=$build/tests/package/bindings
cd "$source/rust/bindings"
if ! cargo run --quiet --locked -- --check 2>&1 | tee "$build/tests/package/bindings.log"; then
  # A toolchain without libclang is enough for everything but this.
  if grep -q 'Unable to find libclang' "$build/tests/package/bindings.log"; then
    echo "skipped: libclang is missing: apt-get install libclang-dev"
    exit 77
  fi
  exit 1
fi
