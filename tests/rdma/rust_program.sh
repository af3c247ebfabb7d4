#!/usr/bin/env bash
# Builds the minimal program of the crate with the name of another transport in it, in a package of
# its own as a user would have it: rust_program.sh REPOSITORY LIBRARY_FOLDER PROGRAM
set -euo pipefail
repository=$1 library=$2 program=$3
if ! command -v cargo >/dev/null; then
  echo "skipped: cargo is not installed"
  exit 77
fi
rm -f "$program"
name=te_minimal_over_rdma
package=$(mktemp -d)
trap 'rm -rf "$package"' EXIT
mkdir "$package/src"
sed 's/"tcp"/"rdma"/' "$repository/rust/examples/minimal.rs" >"$package/src/main.rs"
if cmp -s "$repository/rust/examples/minimal.rs" "$package/src/main.rs"; then
  echo "the program names no transport to replace"
  exit 1
fi
cp "$repository/rust/Cargo.lock" "$package/"
cat >"$package/Cargo.toml" <<TOML
[package]
name = "$name"
version = "0.1.0"
edition = "2021"
[dependencies]
anyhow = "1"
transfer_engine_rust = { path = "$repository/rust" }
[workspace]
TOML
cat >"$package/build.rs" <<'RUST'
fn main() {
    if let Ok(dir) = std::env::var("DEP_TRANSFER_ENGINE_LIB_DIR") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{dir}");
    }
}
RUST
TRANSFER_ENGINE_LIB_DIR=$library cargo build --quiet --manifest-path "$package/Cargo.toml" \
  --target-dir "$repository/rust/target"
cp "$repository/rust/target/debug/$name" "$program"
