#!/bin/sh
# Measures what is promised, on this machine, and prints it beside what a user would pick instead; figures go to build/bench.json.
set -eu
cd "$(dirname "$0")/.."
: "${SKERRY_CACHE:=${XDG_CACHE_HOME:-$HOME/.cache}/skerry-check}"
export SKERRY_CACHE
scripts/test-store.sh >&2
if [ "$(id -u)" -eq 0 ]; then
	scripts/test-runtime-image.sh >&2
	export SKERRY_TEST_RUNTIME="$SKERRY_CACHE/runtime"
fi
SKERRY_HOME=$SKERRY_CACHE/store exec build/bench/bench "$PWD/build/src/cli/skerry" build/bench.json
