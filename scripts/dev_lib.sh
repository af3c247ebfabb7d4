# What the commands of ./dev are made of. Sourced by it, from the repository's root.
# shellcheck shell=bash

BUILD_PACKAGES=(cmake ninja-build g++ ccache pkg-config libfmt-dev libcli11-dev libcpp-httplib-dev
  libhiredis-dev libcurl4-openssl-dev libssl-dev nlohmann-json3-dev libhwloc-dev libfabric-dev
  libibverbs-dev)
TEST_PACKAGES=(libgtest-dev libbenchmark-dev etcd-server redis-server nftables iproute2 python3)
LINT_PACKAGES=(clang clang-format clang-tidy shellcheck python3 git)
BENCH_PACKAGES=(libbenchmark-dev iperf3 perftest)
FUZZ_PACKAGES=(clang libclang-rt-14-dev)
RUST_PACKAGES=(libclang-dev)
# The virtual machine with RDMA devices.
RDMA_PACKAGES=(qemu-system-x86 busybox-static iproute2 libibverbs1 ibverbs-providers)
WERROR=${WERROR:-OFF}
# Where build/ has what the tests test: check has a folder of its own, for its compile options.
PRESET=release
# Whether the tests include the oldest Rust.
MSRV=no

say() { printf '\n== %s\n' "$*"; }

as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    echo "./dev: these packages are missing and installing them takes root: run as root: $*" >&2
    exit 1
  fi
}

# install_packages SET...: installs what is missing of the sets, and nothing else.
install_packages() {
  local wanted=() missing=() set package
  for set in "$@"; do
    case "$set" in
      build) wanted+=("${BUILD_PACKAGES[@]}") ;;
      test) wanted+=("${TEST_PACKAGES[@]}") ;;
      lint) wanted+=("${LINT_PACKAGES[@]}") ;;
      bench) wanted+=("${BENCH_PACKAGES[@]}") ;;
      fuzz) wanted+=("${FUZZ_PACKAGES[@]}") ;;
      rust) wanted+=("${RUST_PACKAGES[@]}") ;;
      rdma) wanted+=("${RDMA_PACKAGES[@]}") ;;
    esac
  done
  for package in "${wanted[@]}"; do
    dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed ||
      missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return
  if ! command -v apt-get >/dev/null; then
    echo "./dev: this system has no apt-get; install what these Debian packages hold:" \
      "${missing[*]}; then build with cmake and run ctest" >&2
    exit 1
  fi
  say "Installing ${missing[*]}"
  as_root apt-get update -q
  # The tests start servers of their own; the packages' must not run beside them.
  local policy=/usr/sbin/policy-rc.d made_policy=no
  if [ ! -e "$policy" ]; then
    made_policy=yes
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod +x "$policy"
    # shellcheck disable=SC2064
    trap "as_root rm -f '$policy'" EXIT
  fi
  as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -qy --no-install-recommends "${missing[@]}"
  if [ "$made_policy" = yes ]; then
    as_root rm -f "$policy"
    trap - EXIT
  fi
}

# configure PRESET [cmake arguments]: quick when nothing changed.
configure() {
  local preset=$1 launcher=()
  shift
  command -v ccache >/dev/null && launcher=(-DCMAKE_C_COMPILER_LAUNCHER=ccache
    -DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  mkdir -p "build/$preset"
  if ! cmake -S . -B "build/$preset" -G Ninja "${launcher[@]}" -DTE_WARNINGS_AS_ERRORS="$WERROR" \
    "$@" >"build/$preset/configure.log" 2>&1; then
    cat "build/$preset/configure.log" >&2
    exit 1
  fi
}

# build PRESET [target]
build() {
  local preset=$1
  shift
  cmake --build "build/$preset" ${1:+--target "$@"}
}

ctest_run() {
  local preset=$1
  say "Tests ($preset)"
  rm -f "build/$preset/tests.xml"
  shift
  ctest --test-dir "build/$preset" --output-on-failure --no-tests=error -j 2 --timeout 180 \
    --test-output-truncation middle --output-junit "$PWD/build/$preset/tests.xml" "$@"
}

rust_wanted() { sed -n 's/^rust-version = "\(.*\)"$/\1/p' rust/Cargo.toml; }

have_rust() {
  local wanted found
  command -v cargo >/dev/null || return 1
  wanted=$(rust_wanted)
  found=$(cargo --version | awk '{print $2}')
  [ "$(printf '%s\n%s\n' "$wanted" "$found" | sort -V | head -n 1)" = "$wanted" ]
}

# Runs in rust/ with the native library that was built already.
rust_env() {
  (cd rust && env TRANSFER_ENGINE_LIB_DIR="$PWD/../build/$PRESET/src" "$@")
}

# ctest, cargo and the oldest Rust if wanted, and one line that sums them up.
run_tests() {
  local failed=0 rust=0 log=build/$PRESET/rust.log msrv=0 msrv_summary=()
  ctest_run "$PRESET" || failed=1
  if have_rust; then
    install_packages rust
    say "Tests (Rust)"
    # What passed is shown too, since a test that skips itself can only say so there.
    rust_env cargo test --quiet --locked --all-features --no-fail-fast -- --test-threads=2 \
      --show-output 2>&1 | tee "$log" || rust=$?
  else
    say "The Rust tests are skipped: they need cargo $(rust_wanted) or later" \
      "(apt-get install cargo, or https://rustup.rs)"
    rust=skipped
  fi
  if [ "$MSRV" = yes ]; then
    say "The oldest Rust ($(rust_wanted))"
    rust_env ./check-msrv.sh 2>&1 | tee "build/$PRESET/msrv.log" || msrv=$?
    msrv_summary=("build/$PRESET/msrv.log" "$msrv")
  fi
  python3 scripts/test_summary.py "build/$PRESET/tests.xml" "$log" "$rust" "${msrv_summary[@]}" ||
    failed=1
  return $failed
}

sources() {
  git ls-files -co --exclude-standard -- '*.cpp' '*.h' '*.c' | while read -r file; do
    [ -f "$file" ] && echo "$file"
  done
}

shell_scripts() {
  echo scripts/dev_lib.sh
  git ls-files -co --exclude-standard | while read -r file; do
    if [ -f "$file" ] && head -n 1 "$file" | tr -d '\0' | grep -Eq '^#!.*(bash|sh)$'; then
      echo "$file"
    fi
  done
}

# Of what clang-tidy is not asked about. Errors here: a public header that needs another one before
# it, in C or in C++.
clang_checks() {
  local files
  mapfile -t files < <(git ls-files -co --exclude-standard -- 'tools/*.cpp')
  printf '%s\n' "${files[@]}" | xargs -P "$(nproc)" -n 1 clang++ -std=c++20 -fsyntax-only -Wall \
    -Wextra -Wshadow -Wthread-safety -Werror -Iinclude -Isrc -Itools/te -DTE_VERSION='"0"'
  for file in include/transfer_engine/*.h include/transfer_engine_c.h; do
    echo "#include \"$file\"" |
      clang++ -std=c++20 -fsyntax-only -Wall -Werror -Iinclude -I. -x c++ -
  done
  echo '#include "transfer_engine_c.h"' | clang -std=c11 -fsyntax-only -Wall -Wpedantic -Werror \
    -Iinclude -x c -
}
