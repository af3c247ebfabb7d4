#!/bin/sh
# Checks that the crate, its tests and its locked dependencies build with the oldest Rust that
# Cargo.toml states. Usage: check-msrv.sh; needs rustup, or a cargo and rustc of that version named
# by MSRV_CARGO and MSRV_RUSTC. Without TRANSFER_ENGINE_LIB_DIR the native library is built too.
#
# The dependencies are fetched by the default cargo and handed over as a folder, since a cargo that
# old reads the registry only through a git index.
set -eu

crate=$(cd "$(dirname "$0")" && pwd)
msrv=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$crate/Cargo.toml")
[ -n "$msrv" ] || { echo "check-msrv: Cargo.toml states no rust-version" >&2; exit 1; }

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM

if [ -z "${MSRV_CARGO:-}" ]; then
  command -v rustup >/dev/null || {
    echo "check-msrv: needs rustup, or MSRV_CARGO and MSRV_RUSTC" >&2
    exit 1
  }
  toolchain="$msrv.0"
  rustup run "$toolchain" rustc --version >/dev/null 2>&1 ||
    rustup toolchain install "$toolchain" --profile minimal
  MSRV_CARGO=$(rustup which --toolchain "$toolchain" cargo)
  MSRV_RUSTC=$(rustup which --toolchain "$toolchain" rustc)
fi

mkdir "$scratch/home"
(cd "$crate" && cargo vendor --quiet --locked --versioned-dirs "$scratch/vendor")
cat >"$scratch/home/config.toml" <<EOF
[source.crates-io]
replace-with = "vendored"
[source.vendored]
directory = "$scratch/vendor"
EOF

echo "check-msrv: $("$MSRV_RUSTC" --version)"
cd "$crate"
for features in --no-default-features "" --all-features; do
  # shellcheck disable=SC2086
  CARGO_HOME="$scratch/home" RUSTC="$MSRV_RUSTC" RUSTFLAGS="-D warnings" \
    CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/msrv" \
    "$MSRV_CARGO" check --quiet --offline --locked --all-targets $features
done
echo "check-msrv: builds with Rust $msrv"
