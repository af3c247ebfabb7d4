#!/usr/bin/env bash
# ./dev demo on a machine that has nothing of what it needs, as scripts/fresh_root.sh gives it.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
  echo "demo_check: $*" >&2
  exit 1
}

for program in cargo rustc cmake g++ make python3; do
  if command -v "$program"; then fail "this is no bare machine"; fi
done

echo "== Without one package, it must fail and name it"
if DEV_LEAVE_OUT=nlohmann-json3-dev ./dev demo >build.log 2>&1; then
  fail "the demo ran without a package of its list: the machine has it from elsewhere"
fi
grep -q 'nlohmann_json' build.log || {
  cat build.log >&2
  fail "the failure above is another one than that of the missing package"
}
rm build.log

echo "== With all packages"
./dev demo
echo "== Again, without a build"
SECONDS=0
./dev demo >again.log
grep -q '== Installing\|^Building' again.log && fail "the second demo built something"
echo "the second demo took $SECONDS s"
rm again.log
