#!/usr/bin/env bash
# Packs the Rust crate with `cargo package`, builds a program that depends on the packed file where
# this repository cannot be reached, and installs the crate's own program from it. Then the crate
# with an installed native library. Usage: rust_crate_test.sh BUILD SOURCE SANITIZE
set -euo pipefail
build=$(realpath "$1") source=$(realpath "$2") sanitize=$3
if [ -n "$sanitize" ]; then
  echo "skipped: a sanitized library needs its users sanitized too"
  exit 77
fi
wanted=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$source/rust/Cargo.toml")
found=$(cargo --version 2>/dev/null | awk '{print $2}' || true)
oldest=$(printf '%s\n%s\n' "$wanted" "${found:-0}" | sort -V | head -n 1)
if [ "$oldest" != "$wanted" ]; then
  echo "skipped: no cargo that is new enough: it needs $wanted or later"
  exit 77
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# Another test runs beside it.
export CARGO_BUILD_JOBS=1
unset TRANSFER_ENGINE_LIB_DIR TRANSFER_ENGINE_USE_INSTALLED LD_LIBRARY_PATH
if command -v ccache >/dev/null; then
  # The same objects, though the folders have other names each time.
  export CMAKE_C_COMPILER_LAUNCHER=ccache CMAKE_CXX_COMPILER_LAUNCHER=ccache
  export CCACHE_BASEDIR=$scratch CCACHE_NOHASHDIR=1
fi

# In a mount namespace without the repository, where that is possible; else it is only not named.
if unshare --mount true 2>/dev/null; then
  without_repository() {
    # shellcheck disable=SC2016
    unshare --mount --propagation private bash -c \
      'mount -t tmpfs none "$1" && cd "$2" && shift 2 && exec "$@"' bash "$source" "$PWD" "$@"
  }
else
  without_repository() { "$@"; }
fi

# Moves bytes with no setting and no file but itself; without libtransfer_engine.so. Besides the
# libraries of C and C++ it takes OpenSSL, which makes the connections with TLS; all others are
# opened at run time.
moves_bytes_alone() {
  local alone=$scratch/alone
  mkdir -p "$alone"
  cp "$1" "$alone/program"
  local others
  others=$(readelf -d "$alone/program" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' |
    grep -vE '^(libc|libm|libdl|libpthread|libstdc\+\+|libgcc_s|ld-linux-.*)\.so\.[0-9]+$' |
    grep -vE '^(libssl|libcrypto)\.so\.3$' || true)
  if [ -n "$others" ]; then
    echo "$1 takes more than the C and C++ libraries and OpenSSL:" "$others" >&2
    return 1
  fi
  (cd / && without_repository env -i "$alone/program")
}

echo "== cargo package: the sources are in it"
(cd "$source/rust" && cargo package --quiet --allow-dirty --no-verify \
  --target-dir "$scratch/package")
tar -xzf "$scratch"/package/package/transfer_engine_rust-*.crate -C "$scratch"
crate=$(echo "$scratch"/transfer_engine_rust-*/)
if [ -n "$(find "$crate" -type l)" ]; then
  echo "the package has links, which lead nowhere elsewhere"
  exit 1
fi

echo "== a program that depends on it"
mkdir -p "$scratch/app/src"
cp "$source/rust/Cargo.lock" "$scratch/app/"
cat >"$scratch/app/Cargo.toml" <<TOML
[package]
name = "app"
version = "0.1.0"
edition = "2021"
[dependencies]
anyhow = "1"
transfer_engine_rust = { path = "$crate" }
[workspace]
TOML
cp "$source/tests/package/moves_bytes.rs" "$scratch/app/src/main.rs"
export CARGO_TARGET_DIR=$scratch/target
cd "$scratch"
without_repository cargo build --quiet --manifest-path "$scratch/app/Cargo.toml"
moves_bytes_alone "$scratch/target/debug/app" | grep 'wrote 4096 bytes, equal'

echo "== cargo install"
without_repository cargo install --quiet --debug --locked --path "$crate" \
  --root "$scratch/installed"
rm -rf "$scratch/target"
"$scratch/installed/bin/transfer_engine_bench" --help | grep -q segment-id

echo "== with an installed library, when asked"
# The crate as it is set up now moves bytes, with a library below the folder that is given.
export CARGO_TARGET_DIR=$build/tests/package/crate
cmake --install "$build" --prefix "$scratch/native" >/dev/null
pc=$(find "$scratch/native" -name transfer_engine.pc)
cd "$source/rust"
TRANSFER_ENGINE_USE_INSTALLED=1 PKG_CONFIG_PATH=${pc%/*} \
  cargo test --quiet --locked --test bench_program it_measures
program=$CARGO_TARGET_DIR/debug/transfer_engine_bench
ldd "$program" | grep -F libtransfer_engine.so | grep -F "=> $(realpath "$scratch")/native/" || {
  echo "$program takes another libtransfer_engine.so than the installed one"
  exit 1
}

echo "== asked for an installed library that is not there"
if TRANSFER_ENGINE_USE_INSTALLED=1 PKG_CONFIG_LIBDIR=$scratch cargo build --quiet --locked \
  >"$scratch/said" 2>&1; then
  echo "it was built, with what?"
  exit 1
fi
grep 'pkg-config finds no module .transfer_engine.: install' "$scratch/said" || {
  cat "$scratch/said"
  exit 1
}
