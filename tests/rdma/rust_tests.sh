#!/usr/bin/env bash
# Builds tests of the crate, to be run elsewhere, and leaves a program FOLDER/TEST for each:
# rust_tests.sh REPOSITORY LIBRARY_FOLDER FOLDER TEST...
set -euo pipefail
repository=$1 library=$2 folder=$3
shift 3
if ! command -v cargo >/dev/null; then
  echo "skipped: cargo is not installed"
  exit 77
fi
rm -rf "$folder"
mkdir "$folder"
cd "$repository/rust"
for test in "$@"; do
  program=$(TRANSFER_ENGINE_LIB_DIR=$library cargo test --quiet --locked --all-features --no-run \
    --message-format json --test "$test" |
    sed -n 's/.*"executable":"\([^"]*\/deps\/[^"]*\)".*/\1/p' | tail -n 1)
  cp "$program" "$folder/$test"
done
