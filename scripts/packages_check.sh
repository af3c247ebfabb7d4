#!/usr/bin/env bash
# Whether each package that ./dev installs to build is needed: without it the configuration must
# fail, or say that something is left out. Run it on a machine to throw away:
# ./dev fresh scripts/packages_check.sh
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/dev_lib.sh
source scripts/dev_lib.sh

# These make the build faster, or are for the tests alone.
NOT_TO_CONFIGURE=(make ccache etcd-server redis-server nftables iproute2)
# These hold nothing themselves, but depend on what does.
NOT_TO_CONFIGURE+=(pkg-config python3)

install_packages build test
needless=()
for package in "${BUILD_PACKAGES[@]}" "${TEST_PACKAGES[@]}"; do
  [[ " ${NOT_TO_CONFIGURE[*]} " == *" $package "* ]] && continue
  dpkg --remove --force-depends "$package" >removed.log 2>&1
  rm -rf build/without
  if (configure without && require_whole without) >>removed.log 2>&1; then
    needless+=("$package")
  else
    echo "$package: needed"
  fi
  apt_install "$package" >>removed.log 2>&1
done
rm removed.log
if [ ${#needless[@]} -gt 0 ]; then
  echo "packages_check: without these all is configured as well: ${needless[*]}" >&2
  exit 1
fi
