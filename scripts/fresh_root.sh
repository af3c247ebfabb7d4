#!/usr/bin/env bash
# Runs commands in a bare Debian 12: what debootstrap's minbase holds, git, and a clean clone of
# this repository, in which they start. Of the machine they see the network, the certificates, where
# packages come from, and with --rust its Rust toolchain. Nothing of it is written but the cache.
#
# usage: scripts/fresh_root.sh [--rust] [COMMAND [ARGUMENT...]]    (without COMMAND: a shell)
#
# The cache is ~/.cache/transfer_engine/fresh (XDG_CACHE_HOME): the root as debootstrap left it, and
# downloads and compiled objects, which do not hide that a package is missing. Each run gets a copy
# of the root, which is removed in the end.
# Takes root, or sudo. All that it mounts and starts ends with it: it has namespaces of its own.
set -euo pipefail
cd "$(dirname "$0")/.."

RELEASE=bookworm
MIRROR=http://deb.debian.org/debian
# Older ones are made anew, so that there is little to upgrade.
ROOT_DAYS_MAX=30
PACKAGE_DAYS_MAX=90
# Of the environment: proxies, certificates, registries.
PASSED_ON='^(https?_proxy|HTTPS?_PROXY|no_proxy|NO_PROXY|all_proxy|ALL_PROXY|SSL_CERT_(FILE|DIR)
|CURL_CA_BUNDLE|GIT_SSL_CAINFO|REQUESTS_CA_BUNDLE|PIP_[A-Z_]*(URL|CERT|HOST|TIMEOUT)
|CARGO_(HTTP|NET|REGISTR)[A-Z_]*|RUSTUP_(DIST_SERVER|UPDATE_ROOT|AUTO_INSTALL)|CI|TERM
|DEV_LEAVE_OUT|WERROR|CCACHE_NOHASHDIR)$'
PASSED_ON=${PASSED_ON//$'\n'/}

fail() {
  echo "fresh_root: $*" >&2
  exit 1
}

usage() { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; }

# --- As the caller: what the machine has. Then the same script as root.

# Name and value of each variable that is passed on, NUL-terminated.
passed_on() {
  local name
  for name in $(compgen -e); do
    if [[ $name =~ $PASSED_ON ]]; then printf '%s=%s\0' "$name" "${!name}"; fi
  done
}

# The folder of the toolchain that `cargo` stands for, when it holds all of it.
rust_sysroot() {
  local sysroot
  sysroot=$(rustc --print sysroot 2>/dev/null) || return 0
  if [ -x "$sysroot/bin/cargo" ] && [ "$sysroot" != /usr ]; then echo "$sysroot"; fi
}

from_outside() {
  local rust="" wants_rust=no
  if [ "${1-}" = --rust ]; then
    shift
    wants_rust=yes
  fi
  case "${1-}" in
    -h | --help) usage && return ;;
    -*)
      echo "fresh_root: there is no option '$1'" >&2
      usage >&2
      exit 2
      ;;
  esac
  if [ $wants_rust = yes ]; then
    rust=$(rust_sysroot)
    [ -n "$rust" ] || echo "fresh_root: this machine has no Rust toolchain of its own to show" >&2
  fi
  [ "$(uname -s)" = Linux ] || fail "it takes Linux"
  command -v git >/dev/null || fail "it takes git to clone the repository"
  if [ -n "$(git status --porcelain)" ]; then
    echo "fresh_root: the clone holds the last commit; what is not committed is left out" >&2
  fi
  local cache=${XDG_CACHE_HOME:-$HOME/.cache}/transfer_engine
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || fail "it takes root for mounts and namespaces: run it as root"
    as_root=(sudo)
  fi
  mkdir -p "$cache/fresh"
  (umask 077 && passed_on >"$cache/fresh/environment.$$")
  exec "${as_root[@]}" "$PWD/scripts/fresh_root.sh" --as-root "$cache" \
    "$cache/fresh/environment.$$" "${CARGO_HOME:-$HOME/.cargo}" "$rust" "$@"
}

# --- As root, outside.

# Sources of Debian 12 that this machine's apt uses: "URI SUITE" each.
machine_sources() {
  command -v apt-get >/dev/null || return 0
  # shellcheck disable=SC2016
  apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' \
    2>/dev/null | sed -nE "s,/? ($RELEASE(-updates|-security)?) main\$, \1,p" | sort -u
}

# Removes what runs that were killed have left.
remove_leftovers() {
  local left
  for left in "$fresh"/new.* "$fresh"/run.*; do
    [ -d "$left" ] || continue
    # Its owner holds the lock.
    if flock --nonblock "$left" true; then rm -rf --one-file-system "$left"; fi
  done
  find "$fresh" -maxdepth 1 -name 'environment.*' -mmin +60 -delete
}

# make_root: the root as debootstrap leaves it, at $root. Whole, or not at all.
make_root() {
  local new mirror sources
  if ! command -v debootstrap >/dev/null; then
    command -v apt-get >/dev/null || fail "debootstrap is missing, and there is no apt-get for it"
    echo "fresh_root: installing debootstrap"
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive \
      apt-get install -qy --no-install-recommends debootstrap; } >"$fresh/debootstrap.log" 2>&1 || {
      cat "$fresh/debootstrap.log" >&2
      fail "debootstrap cannot be installed"
    }
  fi
  sources=$(machine_sources)
  mirror=$(sed -n "s/ $RELEASE\$//p" <<<"$sources" | head -n 1)
  new=$(mktemp -d "$fresh/new.XXXXXX")
  exec 8<"$new"
  flock 8
  chmod 755 "$new"
  echo "fresh_root: making a bare root of Debian $RELEASE, about a minute"
  debootstrap --variant=minbase --include=git "$RELEASE" "$new/root" "${mirror:-$MIRROR}" \
    >"$fresh/debootstrap.log" 2>&1 || {
    tail -n 20 "$fresh/debootstrap.log" >&2
    rm -rf --one-file-system "$new"
    fail "debootstrap failed, as above; all of it is in $fresh/debootstrap.log"
  }
  rm -rf "$new/root/var/cache/apt/archives"/*.deb
  rm -rf --one-file-system "$root"
  mv "$new/root" "$root"
  rmdir "$new"
  exec 8<&-
}

# Where packages come from, names, certificates: of the machine.
copy_settings() {
  local sources
  sources=$(machine_sources)
  if [ -n "$sources" ]; then
    sed -E 's/(.*) (.*)/deb \1 \2 main/' <<<"$sources" >"$1/etc/apt/sources.list"
  fi
  if command -v apt-config >/dev/null; then
    apt-config dump | grep '^Acquire::' >"$1/etc/apt/apt.conf.d/00machine" || true
  fi
  cp -L /etc/resolv.conf /etc/hosts "$1/etc/"
  if [ -d /usr/local/share/ca-certificates ]; then
    mkdir -p "$1/usr/local/share/ca-certificates"
    cp -rL /usr/local/share/ca-certificates/. "$1/usr/local/share/ca-certificates/"
  fi
  if [ -e /etc/ssl/certs/ca-certificates.crt ]; then
    mkdir -p "$1/etc/ssl/certs"
    cp -L /etc/ssl/certs/ca-certificates.crt "$1/etc/ssl/certs/"
  fi
  if [ -e /etc/pip.conf ]; then cp -L /etc/pip.conf "$1/etc/"; fi
  local file
  for file in config config.toml; do
    rm -f "$fresh/cargo/$file"
    if [ -e "$cargo_home/$file" ]; then cp -L "$cargo_home/$file" "$fresh/cargo/"; fi
  done
}

# Packages that were fetched before. Links, not a shared folder: apt locks it.
lend_packages() {
  find "$fresh/apt" -name '*.deb' -mtime +$PACKAGE_DAYS_MAX -delete
  find "$fresh/apt" -name '*.deb' -exec ln -t "$1/var/cache/apt/archives" {} +
}

keep_packages() {
  find "$1/var/cache/apt/archives" -maxdepth 1 -name '*.deb' -links 1 \
    -exec ln -f -t "$fresh/apt" {} + 2>/dev/null || true
}

# Without anything that git has not.
clone_into() {
  git -c safe.directory='*' rev-parse HEAD >/dev/null
  GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*' \
    git clone --quiet --no-hardlinks "file://$PWD" "$1/root/transfer_engine"
}

as_root() {
  umask 022
  local cache=$1 environment=$2
  cargo_home=$3 rust=$4
  shift 4
  fresh=$cache/fresh
  root=$fresh/$RELEASE-$(uname -m)
  mkdir -p "$fresh"/{apt,ccache,cargo} "$cache/rdma_vm"
  unshare --mount --pid --fork true ||
    fail "this machine allows no namespaces of its own, as above; a container may need --privileged"
  exec 9>"$fresh/lock"
  flock 9
  remove_leftovers
  if [ ! -d "$root" ] || [ -n "$(find "$root" -maxdepth 0 -mtime +$ROOT_DAYS_MAX)" ]; then
    make_root
  fi
  run=$(mktemp -d "$fresh/run.XXXXXX")
  exec 7<"$run"
  flock 7
  trap 'keep_packages "$run/root"; rm -rf --one-file-system "$run"; rm -f "$environment"' EXIT
  trap 'exit 130' INT TERM HUP
  chmod 755 "$run"
  cp -a --reflink=auto "$root" "$run/root"
  flock -u 9
  copy_settings "$run/root"
  lend_packages "$run/root"
  clone_into "$run/root"
  [ $# -gt 0 ] || set -- bash
  local status=0 inner=(unshare --mount --pid --fork --kill-child --propagation private
    "$PWD/scripts/fresh_root.sh" --inside "$cache" "$run/root" "$environment" "$rust" "$@")
  if [ -t 0 ]; then
    "${inner[@]}" || status=$?
  else
    # Bash looks at its traps while it waits, not while a command runs in front.
    "${inner[@]}" <&0 &
    # unshare ignores SIGTERM; with it all that runs inside is killed.
    trap 'kill -KILL $!; wait $! || true; exit 130' INT TERM HUP
    wait $! || status=$?
  fi
  exit $status
}

# --- In namespaces of its own, as their first process.

mount_all() {
  local new=$1 folder
  # A mount of its own, or `ip netns exec` cannot make it private.
  mount --bind "$new" "$new"
  mount -t proc proc "$new/proc"
  mount --rbind /sys "$new/sys"
  mount --rbind /dev "$new/dev"
  mount -t tmpfs -o mode=1777 shm "$new/dev/shm"
  mount -t tmpfs -o mode=755 run "$new/run"
  mkdir "$new/run/lock"
  while read -r folder to; do
    mkdir -p "$new$to"
    mount --bind "$folder" "$new$to"
  done <<FOLDERS
$cache/fresh/ccache /root/.cache/ccache
$cache/fresh/cargo /root/.cargo
$cache/rdma_vm /root/.cache/transfer_engine/rdma_vm
FOLDERS
  if [ -n "$rust" ]; then
    mkdir "$new/opt/rust"
    mount --bind "$rust" "$new/opt/rust"
    mount -o remount,bind,ro "$new/opt/rust"
  fi
}

inside() {
  local cache=$1 new=$2 environment=$3 path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin
  rust=$4
  shift 4
  local settings=()
  mapfile -d '' settings <"$environment"
  if [ -n "$rust" ]; then path=/opt/rust/bin:$path; fi
  set -E
  trap 'fail "this machine does not allow what a root of its own takes, as above"' ERR
  mount_all "$new"
  cd "$new"
  mkdir -p mnt
  pivot_root . mnt
  umount -l /mnt
  trap - ERR
  cd /root/transfer_engine
  # Not exec: what is left without a parent is this process's to reap.
  env -i HOME=/root USER=root LOGNAME=root LANG=C.UTF-8 SHELL=/bin/bash \
    PATH="$path:/sbin:/bin" "${settings[@]}" "$@" 9<&- 7<&-
}

case "${1-}" in
  --as-root) shift && as_root "$@" ;;
  --inside) shift && inside "$@" ;;
  *) from_outside "$@" ;;
esac
