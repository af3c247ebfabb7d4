#!/bin/sh
# Checks that the crate, its tests and its locked dependencies build with the oldest Rust that
# Cargo.toml states. Usage: check-msrv.sh; needs Debian's cargo where its rustc is that old, or
# rustup, or a cargo and rustc of that version named by MSRV_CARGO and MSRV_RUSTC. Without
# TRANSFER_ENGINE_LIB_DIR the native library is built too.
# Status 77, and a line that begins with "skipped:": what it needs is not here.
#
# The dependencies are fetched by the default cargo and handed over as a folder, since a cargo that
# old reads the registry only through a git index. The folder stays, so that the next run builds
# only what changed.
set -eu

crate=$(cd "$(dirname "$0")" && pwd)
msrv=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$crate/Cargo.toml")
[ -n "$msrv" ] || { echo "check-msrv: Cargo.toml states no rust-version" >&2; exit 1; }

skip() {
  echo "skipped: $1"
  exit 77
}

command -v cargo >/dev/null || skip "there is no cargo to fetch the dependencies (https://rustup.rs)"
if [ -z "${MSRV_CARGO:-}" ] && [ -x /usr/bin/cargo ]; then
  case $(/usr/bin/rustc --version 2>/dev/null) in
    "rustc $msrv."*) MSRV_CARGO=/usr/bin/cargo MSRV_RUSTC=/usr/bin/rustc ;;
  esac
fi
if [ -z "${MSRV_CARGO:-}" ]; then
  command -v rustup >/dev/null ||
    skip "it needs rustup (https://rustup.rs), or MSRV_CARGO and MSRV_RUSTC"
  toolchain="$msrv.0"
  rustup run "$toolchain" rustc --version >/dev/null 2>&1 ||
    rustup toolchain install "$toolchain" --profile minimal ||
    skip "rustup cannot install Rust $toolchain"
  MSRV_CARGO=$(rustup which --toolchain "$toolchain" cargo)
  MSRV_RUSTC=$(rustup which --toolchain "$toolchain" rustc)
fi

CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$crate/target}/msrv
mkdir -p "$CARGO_TARGET_DIR/home"
CARGO_TARGET_DIR=$(cd "$CARGO_TARGET_DIR" && pwd)
export CARGO_TARGET_DIR
(cd "$crate" &&
  cargo vendor --quiet --locked --versioned-dirs "$CARGO_TARGET_DIR/vendor" >/dev/null) ||
  skip "the dependencies cannot be fetched"
cat >"$CARGO_TARGET_DIR/home/config.toml" <<EOF
[source.crates-io]
replace-with = "vendored"
[source.vendored]
directory = "$CARGO_TARGET_DIR/vendor"
EOF

echo "check-msrv: $("$MSRV_RUSTC" --version)"
cd "$crate"
for features in --no-default-features "" --all-features; do
  # shellcheck disable=SC2086
  CARGO_HOME="$CARGO_TARGET_DIR/home" RUSTC="$MSRV_RUSTC" RUSTFLAGS="-D warnings" \
    "$MSRV_CARGO" check --quiet --offline --locked --all-targets $features
done
echo "check-msrv: builds with Rust $msrv"
