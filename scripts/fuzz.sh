#!/bin/sh
# Runs every fuzz target for FUZZ_SECONDS (600), as many at once as there are processors, and prints how many inputs each tried.
# New inputs stay in build-fuzz/corpus/; what crashes one lies in build-fuzz/crashes/.
set -u
cd "$(dirname "$0")/.." || exit 1
: "${FUZZ_SECONDS:=600}"

[ -e build-fuzz/build.ninja ] ||
	CC=clang meson setup build-fuzz -Dfuzz=true -Db_sanitize=address,undefined -Db_lundef=false >/dev/null || exit 1
# Nothing else of the tree links with what the coverage calls.
ninja -C build-fuzz fuzz-programs >/dev/null || exit 1
mkdir -p build-fuzz/crashes

fuzz_one() {
	name=$(basename "$1")
	corpus=build-fuzz/corpus/$name
	mkdir -p "$corpus"
	seeds=tests/fuzz/corpus/${name#fuzz_}
	[ -d "$seeds" ] || seeds=
	# shellcheck disable=SC2086 # a path or none
	"$1" -max_total_time="$FUZZ_SECONDS" -rss_limit_mb=1024 -timeout=10 -print_final_stats=1 -artifact_prefix="build-fuzz/crashes/$name-" \
		"$corpus" $seeds >"build-fuzz/$name.log" 2>&1
	status=$?
	runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "build-fuzz/$name.log")
	echo "$name: ${runs:-0} inputs in $FUZZ_SECONDS s, $([ $status -eq 0 ] && echo 'nothing found' || echo "FAILED, see build-fuzz/$name.log")"
	return $status
}

if [ $# -eq 1 ]; then
	fuzz_one "$1"
	exit
fi
find build-fuzz/tests/fuzz -maxdepth 1 -type f -perm -100 -name 'fuzz_*' | sort | xargs -P "$(nproc)" -n 1 "$0"
